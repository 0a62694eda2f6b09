"""COCO's categories as labels. A category is known by its name: ids may have gaps, and differ from file to file."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pyramidseg.base.text import first_few
from pyramidseg.formats.coco.annotations import CocoJson
from pyramidseg.formats.coco.coco_masks import CategoryValues, Id
from pyramidseg.formats.coco.panoptic_masks import VOID
from pyramidseg.formats.dataset_format import SourceLabel
from pyramidseg.formats.polygon_labels import DrawnLabels, alike, merged


@dataclass(frozen=True)
class CategoryLabels:
    """Labels of the categories of all files, in the order of their ids, and for what is a crowd one of its own.

    COCO outlines crowds (`iscrowd`) roughly, with much of what lies between the single objects: they count nowhere, as
    in COCO's own evaluation, unless the user makes `person (crowd)` a class.

    Attributes:
        values: by name.
        left_out: names that only group others, as id 0 in Roboflow's exports does.
    """

    labels: tuple[SourceLabel, ...]
    values: Mapping[str, CategoryValues]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of_objects(cls, files: Sequence[CocoJson]) -> "CategoryLabels":
        """With the value 0 for what no object covers."""
        names, left_out = _names(files)
        drawn = DrawnLabels.of(names)
        return cls._with_crowds(files, drawn.labels, drawn.values, left_out)

    @classmethod
    def of_segments(cls, files: Sequence[CocoJson]) -> "CategoryLabels":
        """With the value 0 for void, which is ignored."""
        names, left_out = _names(files)
        colors = {category.name: category.color for file in files for category in file.categories.values()}
        labels = tuple(SourceLabel(name, value, colors[name]) for value, name in enumerate(names, start=VOID + 1))
        void = SourceLabel("void", VOID, ignored=True)
        return cls._with_crowds(files, (void, *labels), {label.name: label.value for label in labels}, left_out)

    @classmethod
    def _with_crowds(
        cls,
        files: Sequence[CocoJson],
        labels: tuple[SourceLabel, ...],
        values: Mapping[str, int],
        left_out: tuple[str, ...],
    ) -> "CategoryLabels":
        used = _used(files)
        crowded = [name for name in values if used[name, True]]
        crowds = {name: len(labels) + place for place, name in enumerate(crowded)}
        extra = tuple(SourceLabel(crowd_of(name), value, ignored=True) for name, value in crowds.items())
        both = {name: CategoryValues(value, crowds.get(name, value)) for name, value in values.items()}
        unused = [name for name in values if not used[name, False] and not used[name, True]]
        return cls((*labels, *extra), both, left_out, (*_notes(files, left_out, unused, crowded, used), *alike(values)))

    @property
    def names(self) -> tuple[str, ...]:
        """By value."""
        return tuple(label.name for label in self.labels)

    def values_of(self, file: CocoJson) -> dict[Id, CategoryValues]:
        """By the ids that one file uses."""
        named = file.categories.items()
        return {id: self.values[category.name] for id, category in named if category.name in self.values}


def crowd_of(name: str) -> str:
    """What the crowds of a category are called."""
    return f"{name} (crowd)"


def with_crowds(name: str) -> str:
    """How a class that takes the crowds of its category is written."""
    return f"{{name: {name}, from: [{name}, {crowd_of(name)}]}}"


def _names(files: Sequence[CocoJson]) -> tuple[list[str], tuple[str, ...]]:
    """Names of the categories in the order of their ids, and those that only group others and have no object."""
    ordered = [
        file.categories[id]
        for file in files
        for id in sorted(file.categories, key=lambda id: (isinstance(id, str), id))
    ]
    groups = {category.supercategory for category in ordered if category.supercategory != category.name}
    used = _used(files)
    names = dict.fromkeys(category.name for category in ordered)
    left_out = tuple(name for name in names if name in groups and not used[name, False] and not used[name, True])
    return [name for name in names if name not in left_out], left_out


def _used(files: Sequence[CocoJson]) -> Counter[tuple[str, bool]]:
    """Objects by name and whether they are crowds."""
    used: Counter[tuple[str, bool]] = Counter()
    for file in files:
        for (id, crowd), count in file.used.items():
            used[file.categories[id].name, crowd] += count
    return used


def _notes(
    files: Sequence[CocoJson],
    left_out: Sequence[str],
    unused: Sequence[str],
    crowded: Sequence[str],
    used: Counter[tuple[str, bool]],
) -> Iterable[str]:
    if left_out:
        yield f"the categories {first_few(left_out, limit=8)} only group others and have no object: they were left out"
    if unused:
        yield f"no object is of the categories {first_few(unused, limit=8)}"
    yield from merged([[category.name for category in file.categories.values()] for file in files], what="categories")
    if crowded:
        count = sum(used[name, True] for name in crowded)
        yield (
            f"{count} crowds (iscrowd) are outlined roughly, and count nowhere unless a class takes them, as in "
            f"{with_crowds(crowded[0])}"
        )
