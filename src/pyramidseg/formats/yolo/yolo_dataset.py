"""The datasets of YOLO's text files, read and written."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from pyramidseg.annotations.contours import one_ring
from pyramidseg.base.classes import Classes
from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import is_file, resolve_inside, short
from pyramidseg.base.text_files import read_text
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    UNLABELLED_SPLIT,
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SplitNames,
)
from pyramidseg.formats.label_regions import Outlines, corner_words, not_outlined, outlined_classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.paths import child_folder, subfolders, without_leading_folders
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels, drawn_name, repeated_names_note, similar_names_note
from pyramidseg.formats.region_masks import RegionMasks
from pyramidseg.formats.yolo.yolo_description import CLASS_NAMES, DataYaml, find_data_yaml, names_from_list
from pyramidseg.formats.yolo.yolo_masks import are_labels, check_not_boxes, numbered_names, objects, regions
from pyramidseg.images.image_files import list_files, list_images

IMAGES, LABELS = "images", "labels"

_NOT_LABELS = (CLASS_NAMES, "notes.txt", "readme.txt")
"""Text files, in lower case, that may be among labels."""

_MAX_LIST_BYTES = 2**28


@dataclass(frozen=True)
class ImageSource:
    """A folder of images, or a list of images.

    Attributes:
        folder: ids are relative to it.
        labels: all text files in the folder of the labels; for a list, those of its images.
    """

    folder: Path
    images: tuple[Path, ...]
    labels: tuple[Path, ...]

    @classmethod
    def of_folder(cls, place: Path, root: Path) -> "ImageSource":
        texts = list_files(_label_path(place / "any", root).parent, (".txt",))
        labels = tuple(text for text in texts if text.name.lower() not in _NOT_LABELS)
        return cls(place, tuple(list_images(place)), labels)

    @classmethod
    def of_list(cls, images: Sequence[Path], root: Path) -> "ImageSource":
        paths = [_label_path(image, root) for image in images]
        found = [next(filter(is_file, (path, path.with_suffix(".TXT"))), None) for path in paths]
        return cls(root, tuple(images), tuple(label for label in found if label))


Sources = dict[str, list[ImageSource]]


@dataclass(frozen=True)
class YoloFiles:
    """The description, if there is one, and the images and label files of each split."""

    folder: Path
    description: DataYaml | None
    sources: Sources
    notes: tuple[str, ...]
    defects: tuple[Defect, ...]

    @property
    def labels(self) -> list[Path]:
        return sorted({label for sources in self.sources.values() for source in sources for label in source.labels})


def detect(folder: Path, splits: SplitNames) -> YoloFiles | None:
    """Find data.yaml, or folders `labels` whose text files begin with class numbers.

    Raises:
        PartialMatch: data.yaml cannot be read, or there is one but no labels.
    """
    collector = DefectCollector()
    description = find_data_yaml(folder, collector)
    unreadable = collector.defects
    if description is not None or any((place / LABELS).is_dir() for place in (folder, *subfolders(folder))):
        sources, notes = _find_sources(folder, splits, description, collector)
        found = YoloFiles(folder, description, sources, notes, collector.defects)
        if description is not None and not found.labels and found.defects == unreadable:
            raise PartialMatch(f"{description.path} names classes, but no image has a label file (labels/.../name.txt)")
        if description is not None or are_labels(found.labels):
            return found
    if unreadable:
        raise PartialMatch(f"{unreadable[0].file}: {unreadable[0].detail}")
    return None


def read(found: YoloFiles, _: object) -> ParsedDataset:
    """List images with their label files. An image without one is background, as it is for YOLO.

    Raises:
        DefectError: all labels are boxes.
    """
    check_not_boxes(found.folder, found.labels)
    collector, notes = DefectCollector(), list(found.notes)
    names = found.description.names if found.description else names_from_list(found.folder, collector)
    if not names:
        names = numbered_names(found.labels)
        unreadable = found.defects or collector.defects
        why = "the names cannot be read" if unreadable else "there is no data.yaml with names"
        notes.append(f"{why}: the {len(names)} classes are called by their numbers")
    notes += repeated_names_note([names.values()], what="classes")
    drawn = DrawnLabels.of(names[number] for number in sorted(names))
    records: dict[str, tuple[Record, ...]] = {}
    defects = [*found.defects, *collector.defects]
    for split, sources in found.sources.items():
        if split == UNLABELLED_SPLIT and not any(source.images and source.labels for source in sources):
            folders = ", ".join(str(source.folder) for source in sources)
            notes.append(f"the test split ({folders}) has no labels and was left out")
            records[split] = ()
            continue
        records[split], wrong = _records(sources, found.folder)
        defects += [*wrong, *_empty_split(split, sources)]
        without = sum(record.mask is None for record in records[split])
        if without:
            notes.append(f"{without} of the {len(records[split])} {split} images have no label file: all background")
    return ParsedDataset(
        f"YOLO outlines ({found.description.path.name if found.description else 'images, labels'})",
        records,
        drawn.labels,
        RegionMasks(objects, partial(regions, names=names), drawn.values, drawn.names),
        notes=(f"{DRAWN}; where objects overlap, the smaller is on top", *notes, *similar_names_note(drawn.names)),
        defects=tuple(defects),
    )


FORMAT = DatasetFormat(
    "yolo", "images, and labels with one text file of outlines for each image; data.yaml", detect, read
)


# The images of each split.


def _find_sources(
    folder: Path, splits: SplitNames, file: DataYaml | None, defects: DefectCollector
) -> tuple[Sources, tuple[str, ...]]:
    """The images of each split, and notes."""
    if file is None or not file.sources or splits != SPLIT_NAMES:
        return _by_folder_names(folder, splits), ()
    found: Sources = {}
    base = _base(folder, file)
    not_followed = f"path: {file.base} in {file.path.name} is not a folder inside {folder} and was not followed"
    notes: tuple[str, ...] = () if base else (not_followed,)
    for split, entries in file.sources.items():
        places = [_place(entry, base or folder, folder, file.path) for entry in entries]
        if split == UNLABELLED_SPLIT and None in places:
            notes += (f"{file.path.name} names test images that are not there",)
            continue
        found[split] = []
        for place, entry in zip(places, entries, strict=True):
            with defects.collect():
                if place is None:
                    raise _missing(entry, folder, file.path, "" if base else f" ({not_followed})")
                found[split].append(_source(place, folder, defects))
    return found, notes


def _by_folder_names(folder: Path, splits: SplitNames) -> Sources:
    """`{split}/images`, `images/{split}`, or `images`."""
    images = child_folder(folder, [IMAGES])
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    above = {split: child_folder(path, [IMAGES]) for split, path in inside.items() if path}
    below = {split: child_folder(images, names) for split, names in splits.items()} if images else {}
    places = {split: place for split, place in (*above.items(), *below.items()) if place}
    if not places and images and splits == SPLIT_NAMES:
        places = {"train": images}
    return {split: [ImageSource.of_folder(place, folder)] for split, place in places.items()}


def _base(folder: Path, file: DataYaml) -> Path | None:
    """The folder that `path` in data.yaml means; None if it does not exist or is outside of the dataset."""
    try:
        place = (folder / file.base.replace("\\", "/")).resolve()
        inside = Path(os.path.relpath(place, folder.resolve()))
        return folder / inside if ".." not in inside.parts and place.is_dir() else None
    except (OSError, ValueError):  # not a name for this file system
        return None


def _place(entry: str, base: Path, folder: Path, file: Path) -> Path | None:
    """The path that an entry of data.yaml means, inside the dataset.

    Roboflow writes `../train/images` for `train/images`, and Ultralytics reads it so.
    """
    written = entry.replace("\\", "/")
    ends = [(folder, end) for end in without_leading_folders(written)] if written.lower().endswith(".txt") else ()
    for place, name in ((base, written), (base, written.removeprefix("../")), (folder, written), *ends):
        with suppress(DataError):
            found = resolve_inside(name, folder=place, root=folder, where=file)
            if found.exists():
                return found
    return None


def _missing(entry: str, folder: Path, file: Path, remark: str) -> DefectError:
    inside = entry.replace("\\", "/").removeprefix("../")
    resolve_inside(inside, folder=folder, root=folder, where=file)  # raises if it leads out of the dataset
    detail = f"{entry!r} does not exist; add it, remove its split, or name folders relative to {folder}{remark}"
    return DefectError(DefectKind.ABSENT, file, detail)


def _source(place: Path, folder: Path, defects: DefectCollector) -> ImageSource:
    if place.is_dir():
        return ImageSource.of_folder(place, folder)
    lines = Counter(line.strip() for line in read_text(place, most=_MAX_LIST_BYTES).splitlines() if line.strip())
    if not lines:
        raise DefectError(DefectKind.EMPTY, place, "names no image; fill it, or delete it")
    if repeated := [line for line, count in lines.items() if count > 1]:
        detail = f"names {len(repeated)} images more than once, such as {short(repeated[0])}; name each once"
        defects.add(Defect(DefectKind.REPEATED_ID, place, detail))
    images: list[Path] = []
    unusable = DefectCollector()
    for line in lines:
        with unusable.collect():
            images.append(_listed_image(line, place, folder))
    if not images:
        unusable.raise_if_any()
    defects.add(*unusable.defects)
    return ImageSource.of_list(images, folder)


def _listed_image(line: str, file: Path, root: Path) -> Path:
    """The image that a line of a list means: relative to the list if it begins with `./`, else to the dataset.

    The other folder is used if the image exists only there. CVAT writes a folder `data` that is not in its archive.
    The leading folders of an absolute path of another machine are left out one by one.
    """
    bare = line.removeprefix("data/")
    folders = (file.parent, root) if line.startswith(("./", ".\\")) else (root, file.parent)
    for folder in folders:
        for name in (line, bare, *without_leading_folders(line)):
            with suppress(DataError):
                if is_file(image := resolve_inside(name, folder=folder, root=root, where=file)):
                    return image
    return resolve_inside(bare, folder=folders[0], root=root, where=file)


def _label_path(image: Path, root: Path) -> Path:
    """The image's path with the last folder `images` replaced by `labels`; next to the image if there is none."""
    parts = list(image.relative_to(root).parts)
    if IMAGES in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index(IMAGES)] = LABELS
    return root.joinpath(*parts).with_suffix(".txt")


# Records.


def _records(sources: Sequence[ImageSource], root: Path) -> tuple[tuple[Record, ...], list[Defect]]:
    """Ids are relative to the split's folder if there is only one, else to the dataset."""
    origin = sources[0].folder if len(sources) == 1 else root
    by_id: dict[str, Record] = {}
    defects: list[Defect] = []
    for source in sources:
        labels: dict[Path, Path] = {}  # by the path with the extension in lower case
        for label in source.labels:
            first = labels.setdefault(label.with_suffix(".txt"), label)
            if first != label:
                defects.append(Defect(DefectKind.SAME_STEM, label, f"{first} is there too, and one image for both"))
        expected = {image: _label_path(image, root) for image in source.images}
        for image, label in expected.items():
            id = image.relative_to(origin).with_suffix("").as_posix()
            record = Record(id, image, labels.get(label))
            other = by_id.setdefault(id, record)
            if other is not record:
                kind = DefectKind.REPEATED_ID if other.image == image else DefectKind.SAME_STEM
                defects.append(Defect(kind, image, f"{other.image} is there too, and one label file for both"))
        for label in sorted(set(labels).difference(expected.values())):
            detail = f"there is no image of this name in {source.folder}"
            defects.append(Defect(DefectKind.MISSING_IMAGE, labels[label], detail))
    return tuple(by_id.values()), defects


def _empty_split(split: str, sources: Sequence[ImageSource]) -> Iterator[Defect]:
    """A defect if a split has no images, or if no image has a label file."""
    images = sum(len(source.images) for source in sources)
    if sources and not images:
        detail = f"split {split!r} has no images in this folder; add them, or remove the split"
        yield Defect(DefectKind.ABSENT, sources[0].folder, detail)
    elif images and not any(source.labels for source in sources):
        detail = (
            f"none of the {images} images of split {split!r} has a label file (labels/.../name.txt), so all of them "
            "would be background; add the labels, or remove the split"
        )
        yield Defect(DefectKind.ABSENT, sources[0].folder, detail)


# Writing.


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    words, offsets = corner_words(width, height, 1, "{:.8g}", "{:.8g}"), np.array([0, width + 1])
    numbers = {index: number for number, index in enumerate(outlined_classes(classes))}
    outlines = Outlines.of(image, skip=not_outlined(classes))
    lines = [
        f"{numbers[region.value]} {' '.join(words[(one_ring(region.rings) + offsets).ravel()].tolist())}\n"
        for region in outlines.regions
    ]
    files = {f"labels/{image.split}/{image.name}.txt": "".join(lines).encode()}
    return WrittenLabels(files, lost=outlines.lost())


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    # No path: Ultralytics would look for a relative one in the working directory.
    splits = {split: f"images/{split}" for split in parts}
    names = {number: classes.names[index] for number, index in enumerate(outlined_classes(classes))}
    text = yaml.safe_dump({**splits, "names": names}, sort_keys=False, allow_unicode=True)
    yield "data.yaml", iter([text.encode()])


WRITER = LabelWriter(
    "images/{split}/{name}", _encode, _assemble, has_outlines=True, lacks="colours of classes", read_as=drawn_name
)
