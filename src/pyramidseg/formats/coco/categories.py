"""Labels of COCO's categories. A category is identified by its name: ids may have gaps, and differ between files."""

import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyramidseg.annotations.polygons import Location
from pyramidseg.base.text import first_few
from pyramidseg.formats.coco.coco_json import CocoJson, Id, as_id
from pyramidseg.formats.dataset_format import SourceLabel
from pyramidseg.formats.polygon_labels import DrawnLabels, repeated_names_note, similar_names_note
from pyramidseg.formats.yaml_proposal import flow

VOID, VOID_NAME = 0, "void"
"""Mask value (and number of the segment) and label of the pixels of a panoptic PNG that no segment covers: ignored."""

_IDS_SHOWN = 8


class CategoryNames(NamedTuple):
    """The labels of a category: of its objects, and of its crowds."""

    objects: str
    crowds: str


@dataclass(frozen=True)
class CategoryLabels(DrawnLabels):
    """Labels of the categories of all files in the order of their ids, followed by one for each category with crowds.

    Crowds (`iscrowd`) are outlined roughly and include what is between the single objects. They are ignored, as in
    COCO's own evaluation, unless the user makes `person (crowd)` a class. Where all annotations of a category, or of a
    file, are crowds, as CVAT writes its brush masks, they are its objects.

    Attributes:
        crowds: the label of the crowds of each category, by its name.
    """

    crowds: Mapping[str, str]
    notes: tuple[str, ...]

    @classmethod
    def of_files(cls, files: Sequence[CocoJson], *, panoptic: bool) -> "CategoryLabels":
        """Value 0 is background; of panoptic segments, it is void, which is ignored."""
        names, groups = _names(files)
        colors = {category.name: category.color for file in files for category in file.categories.values()}
        drawn = DrawnLabels.of(names, colors)
        if panoptic:
            segments = [SourceLabel(name, value, colors[name]) for value, name in enumerate(names, start=VOID + 1)]
            void = SourceLabel(VOID_NAME, VOID, ignored=True)
            drawn = DrawnLabels((void, *segments), {label.name: label.value for label in segments})
        labels, values, counts = drawn.labels, drawn.values, _object_counts(files)
        crowded = [name for name in values if counts[name, True]]
        only_crowds = [name for name in crowded if not counts[name, False]]
        extra = tuple(
            SourceLabel(crowd_of(name), value, ignored=True) for value, name in enumerate(crowded, len(labels))
        )
        crowds = {name: crowd_of(name) if name in crowded and name not in only_crowds else name for name in values}
        unused = [name for name in values if not counts[name, False] and not counts[name, True]]
        lists = [[category.name for category in file.categories.values()] for file in files]
        notes = list(repeated_names_note(lists, what="categories"))
        if groups:
            notes.append(
                f"the categories {first_few(groups, limit=8)} only group others and have no object: they were left out"
            )
        if unused:
            notes.append(f"the categories {first_few(unused, limit=8)} have no object")
        if as_objects := [*only_crowds, *(file.path.name for file in files if _has_only_crowds(file))]:
            shown = first_few(as_objects, limit=8)
            notes.append(f"all annotations of {shown} are crowds (iscrowd): they are read as objects")
        with_objects = _object_counts([file for file in files if not _has_only_crowds(file)])
        if ignored := [name for name in crowded if with_objects[name, True] and name not in only_crowds]:
            name, total = ignored[0], sum(with_objects[name, True] for name in ignored)
            notes.append(
                f"{total} crowds (iscrowd) are outlined roughly and ignored; to train on them, add them to a class, "
                f"as in {flow({'name': name, 'from': [name, crowd_of(name)]})}"
            )
        all_values = {**values, **{label.name: label.value for label in extra}}
        return cls((*labels, *extra), all_values, crowds, (*notes, *similar_names_note(values)))

    def names_of(self, file: CocoJson) -> dict[Id, CategoryNames]:
        """By the ids of one file."""
        names = {id: category.name for id, category in file.categories.items() if category.name in self.crowds}
        only_crowds = _has_only_crowds(file)
        return {id: CategoryNames(name, name if only_crowds else self.crowds[name]) for id, name in names.items()}


def crowd_of(name: str) -> str:
    """The name of the label of a category's crowds."""
    return f"{name} (crowd)"


def category_names(content: Mapping[str, Any], names: Mapping[Id, CategoryNames], where: Location) -> CategoryNames:
    """The labels of the category of an annotation or of a segment.

    Raises:
        DefectError: it has no category, or one that is not listed.
    """
    id = as_id(content.get("category_id"))
    if id is None or id not in names:
        known = ", ".join(map(repr, list(names)[:_IDS_SHOWN])) + (", ..." if len(names) > _IDS_SHOWN else "")
        raise where.error(
            f"has category {reprlib.repr(content.get('category_id'))} (category_id), which categories does not list "
            f"({known or 'none'}); correct it, or export the file again"
        )
    return names[id]


def _has_only_crowds(file: CocoJson) -> bool:
    return bool(file.objects) and all(crowd for _, crowd in file.objects)


def _names(files: Sequence[CocoJson]) -> tuple[list[str], list[str]]:
    """Names of the categories in the order of their ids; and those that have no object and only group others.

    Roboflow exports such a group as id 0.
    """
    ids = [(file, id) for file in files for id in sorted(file.categories, key=lambda id: (isinstance(id, str), id))]
    ordered = [file.categories[id] for file, id in ids]
    supercategories = {category.supercategory for category in ordered if category.supercategory != category.name}
    counts = _object_counts(files)
    names = list(dict.fromkeys(category.name for category in ordered))
    groups = [name for name in names if name in supercategories and not counts[name, False] and not counts[name, True]]
    return [name for name in names if name not in groups], groups


def _object_counts(files: Sequence[CocoJson]) -> Counter[tuple[str, bool]]:
    """Number of objects by category name and `iscrowd`."""
    counts: Counter[tuple[str, bool]] = Counter()
    for file in files:
        for (id, crowd), count in file.objects.items():
            counts[file.categories[id].name, crowd] += count
    return counts
