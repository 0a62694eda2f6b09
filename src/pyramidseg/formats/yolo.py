"""YOLO's layout: label files in `labels`, at the places that the images have in `images`.

data.yaml             names, and where the images of each split are (Ultralytics, Roboflow, CVAT); or
classes.txt           names (Label Studio, LabelImg)
images/train/a.jpg    or train/images/a.jpg
labels/train/a.txt    or train/labels/a.txt
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import SLACK, Polygons, Ring, Where, parse_ring, rasterise
from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import is_file, named_file, short
from pyramidseg.base.text_files import read_text, read_yaml
from pyramidseg.data.index_masks import describe_names, describe_ranges
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SplitNames,
    already_read,
)
from pyramidseg.formats.paths import child_file, child_folder, content, subfolders
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels, alike, merged
from pyramidseg.images.decode import image_size
from pyramidseg.images.open_image import list_files, list_images

# Ultralytics' description of a dataset, mostly called data.yaml.

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class YoloFile:
    """What the file says; with a defect in its names or its sources, it says nothing of them.

    Attributes:
        names: by class number.
        base: the folder that `sources` are relative to, as it is written (`.` where it is not).
        sources: of each split the folders or lists of images, as they are written.
    """

    path: Path
    names: Mapping[int, str]
    base: str
    sources: Mapping[str, tuple[str, ...]]


def find_yolo_file(folder: Path, flaws: DefectCollector) -> YoloFile | None:
    """`data.yaml`, or the only YAML file that names classes as it does; None too where it cannot be read.

    Args:
        flaws: takes what is wrong with it.

    Raises:
        DataError: there are several, or it describes keypoints.
    """
    file = child_file(folder, "data.yaml") or child_file(folder, "data.yml") or _only_yolo_file(folder)
    described: dict[Any, Any] = {}
    if file is not None:
        with flaws.collect():
            described = _read(file)
    return _parsed(file, described, flaws) if file is not None and "names" in described else None


def _only_yolo_file(folder: Path) -> Path | None:
    files = [path for path in content(folder) if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    fitting = [file for file in files if is_yolo_file(file)]
    if len(fitting) > 1:
        raise DataError(f"{fitting[0]}: {fitting[1].name} names classes too; call the right one data.yaml")
    return fitting[0] if fitting else None


def is_yolo_file(file: Path) -> bool:
    """Whether a YAML file names classes and training images as Ultralytics has it."""
    try:
        return {"names", "train"} <= set(_read(file))
    except DataError:
        return False


def _read(file: Path) -> dict[Any, Any]:
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise _flaw(file, "a mapping with the keys names, train and val is needed")
    return content


def _parsed(file: Path, content: dict[Any, Any], flaws: DefectCollector) -> YoloFile:
    if content.get("kpt_shape"):
        raise DataError(f"{file}: describes keypoints (kpt_shape), which are no masks; export segmentation labels")
    names: dict[int, str] = {}
    sources: dict[str, tuple[str, ...]] = {}
    with flaws.collect():
        names = _names(file, content)
    with flaws.collect():
        sources = {split: _sources_of_file(file, split, content[split]) for split in SPLITS if content.get(split)}
    base = content.get("path")
    return YoloFile(file, names, base if isinstance(base, str) else ".", sources)


def _names(file: Path, content: Mapping[Any, Any]) -> dict[int, str]:
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise _flaw(file, "names: a list of class names, or a mapping of numbers to names, is needed")
    for number, name in names.items():
        if not isinstance(number, int) or not 0 <= number < 2**16 or not isinstance(name, (str, int, float)):
            raise _flaw(file, f"names: the name of a class is text, and its number from 0 to {2**16 - 1}")
    count = content.get("nc", len(names))
    if count != len(names):
        raise _flaw(file, f"nc: {short(count)} classes, but there are {len(names)} names; make them agree")
    return {number: str(name).strip() or f"class {number}" for number, name in names.items()}


def _sources_of_file(file: Path, split: str, value: object) -> tuple[str, ...]:
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, str) for source in sources):
        raise _flaw(file, f"{split}: a folder of images, a list of folders, or a text file is needed")
    return tuple(sources)


def _flaw(file: Path, detail: str) -> DefectError:
    return DefectError(DefectKind.BAD_ANNOTATION, file, detail)


# YOLO's outlines as masks: a text file for each image, a line for each object, `class x1 y1 x2 y2 ...`.

_BOX_TOKENS = 5


@dataclass(frozen=True)
class YoloValues:
    """Objects of a label file; an image without one is all background. Of those that overlap, the smaller lies on top.

    Attributes:
        values: by class number.
        names: by value; 0 is what no object covers.
    """

    values: Mapping[int, int]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        height, width = image_size(record.image)
        if record.mask is None:
            return np.zeros((height, width), np.uint16)
        shapes: list[Polygons] = []
        flaws = DefectCollector()
        for line, text in enumerate(read_text(record.mask).splitlines(), start=1):
            with flaws.collect():
                if text.strip():
                    value, ring = self._object(text.split(), Where(record.mask, f"line {line}"))
                    shapes.append(Polygons(value, [[ring * (width, height)]]))
        flaws.raise_if_any()
        return rasterise(shapes, height=height, width=width, where=Where(record.mask))

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        return False

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)

    def _object(self, fields: list[str], where: Where) -> tuple[int, Ring]:
        """The value and the outline (in shares of the image) that a line holds.

        Raises:
            DataError: a box, too few points, anything but numbers, points far beyond the image, a class without a name.
        """
        if len(fields) == _BOX_TOKENS:
            raise where.flaw(
                "holds a box (class, centre, width, height), and a box is no mask; label the outlines of objects "
                "(class x1 y1 x2 y2 x3 y3 ...), or take this line out"
            )
        ring = parse_ring(fields[1:], where=where)
        if ring.min() < -SLACK or ring.max() > 1 + SLACK:
            raise where.flaw(
                f"coordinates from {ring.min():g} to {ring.max():g}: they are shares of the image's width and height, "
                f"from 0 to 1 (up to {SLACK:g} beyond is cut off); divide pixels by these, or delete this object"
            )
        number = _class_number(fields[0], where)
        if number not in self.values:
            named = f"only {describe_ranges(self.values)} have names; name it too, or correct the number"
            raise where.flaw(f"class {number}: {named}")
        return self.values[number], ring


def _class_number(field: str, where: Where) -> int:
    try:
        number = float(field)
    except ValueError:
        number = -1.0
    if not (0 <= number < 2**16 and number.is_integer()):
        raise where.flaw(f"begins with {field[:40]!r}, where the number of a class is needed")
    return int(number)


IMAGES, LABELS = "images", "labels"

CLASS_NAMES = "classes.txt"
NO_LABELS = (CLASS_NAMES, "notes.txt", "readme.txt")
"""Text files, in lower case, that may lie among labels."""

_LIST_BYTES = 2**28
_LINES_LOOKED_AT = 1000
_BOX = 5
_DIGITS = 5  # longer numbers are not those of a class


@dataclass(frozen=True)
class _Source:
    """A folder of images, or a list of some.

    Attributes:
        folder: what ids are relative to.
        texts: all text files where the labels should be; of a list, those of its images alone.
    """

    folder: Path
    images: tuple[Path, ...]
    texts: tuple[Path, ...]


def read_yolo(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """List images with their label files. An image without one is background alone, as it is for YOLO.

    Raises:
        PartialMatch: there is a data.yaml and no labels.
        DataError: all labels are boxes.
    """
    flaws = DefectCollector()
    file = find_yolo_file(folder, flaws)
    wrong = flaws.defects
    if file is None and not _has_label_folders(folder):
        _tell_unread(wrong)
        return None
    sources, notes = _sources(folder, splits, file, flaws)
    texts = {text for parts in sources.values() for part in parts for text in part.texts}
    if file is None and not _begins_with_number(texts):
        _tell_unread(wrong)
        return None
    if not texts and flaws.defects == wrong:
        raise PartialMatch(f"{file and file.path} names classes, but no image has a label file (labels/.../name.txt)")
    _refuse_boxes(folder, texts)
    names = file.names if file else _names_from_list(folder, flaws)
    if not names:
        names = _numbered(texts)
        why = "the names cannot be read" if flaws.defects else "there is no data.yaml with names"
        notes += (f"{why}: the {len(names)} classes are called by their numbers",)
    notes += merged([names.values()], what="classes")
    drawn = DrawnLabels.of(names[number] for number in sorted(names))
    records: dict[str, tuple[Record, ...]] = {}
    defects = list(flaws.defects)
    for split, parts in sources.items():
        if split == "test" and not any(part.images and part.texts for part in parts):
            notes += (
                f"the test split ({', '.join(str(part.folder) for part in parts)}) has no labels and was left out",
            )
            records[split] = ()
            continue
        records[split], faults = _records(parts, folder)
        defects += [*faults, *_emptiness(split, parts)]
        lacking = sum(record.mask is None for record in records[split])
        if lacking:
            notes += (f"{lacking} of the {len(records[split])} {split} images have no label file: all background",)
    return ParsedDataset(
        f"YOLO outlines ({file.path.name if file else 'images, labels'})",
        records,
        drawn.labels,
        YoloValues({number: drawn.values[name] for number, name in names.items()}, drawn.names),
        notes=(f"{DRAWN}; of objects that overlap, the smaller lies on top", *notes, *alike(drawn.names)),
        defects=tuple(defects),
    )


def _tell_unread(wrong: Sequence[Defect]) -> None:
    """Say of a folder that is not recognised what its data.yaml might have told.

    Raises:
        PartialMatch: it cannot be read.
    """
    if wrong:
        raise PartialMatch(f"{wrong[0].file}: {wrong[0].detail}")


def _has_label_folders(folder: Path) -> bool:
    return any((place / LABELS).is_dir() for place in (folder, *subfolders(folder)))


def _sources(
    folder: Path, splits: SplitNames, file: YoloFile | None, flaws: DefectCollector
) -> tuple[dict[str, list[_Source]], tuple[str, ...]]:
    """The images of each split: where the file says, or by the names of folders."""
    if file is None or not file.sources or splits != SPLIT_NAMES:
        return _by_folders(folder, splits), ()
    found: dict[str, list[_Source]] = {}
    base = _base(folder, file)
    notes: tuple[str, ...] = () if base else (_not_followed(folder, file),)
    unknown: list[str] = []
    for split, entries in file.sources.items():
        places = [_place(entry, base or folder, folder, file.path) for entry in entries]
        if split == "test" and None in places:
            notes += (f"{file.path.name} names test images that are not there",)
            continue
        found[split] = []
        for place, entry in zip(places, entries, strict=True):
            with flaws.collect():
                found[split].append(_source(place, entry, folder, file, flaws))
        if len(found[split]) < len(places) - places.count(None):
            unknown.append(split)
    if unknown and (unnamed := _unnamed(folder, found.values())):
        found[unknown[0]].append(unnamed)
        notes += (f"{len(unnamed.images)} images are named nowhere and are inspected as {unknown[0]}",)
    return found, notes


def _unnamed(folder: Path, found: Iterable[Sequence[_Source]]) -> _Source | None:
    """The labelled images that are in no split: those of a list that should name some and does not."""
    named = {os.path.realpath(image) for parts in found for part in parts for image in part.images}
    unnamed = (image for image in list_images(folder) if os.path.realpath(image) not in named)
    images = [image for image in unnamed if _text_of(image, folder)]
    return _list_source(images, folder) if images else None


def _by_folders(folder: Path, splits: SplitNames) -> dict[str, list[_Source]]:
    """`{split}/images`, `images/{split}`, or `images`, with labels in their place."""
    images = child_folder(folder, [IMAGES])
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    above = {split: child_folder(path, [IMAGES]) for split, path in inside.items() if path}
    below = {split: child_folder(images, names) for split, names in splits.items()} if images else {}
    places = {split: place for split, place in (*above.items(), *below.items()) if place}
    if not places and images and splits == SPLIT_NAMES:
        places = {"train": images}
    return {split: [_folder_source(place, folder)] for split, place in places.items()}


def _base(folder: Path, file: YoloFile) -> Path | None:
    """The folder that data.yaml says the dataset is in (`path`); None where it is not there, or lies outside."""
    try:
        place = (folder / file.base.replace("\\", "/")).resolve()
        inside = Path(os.path.relpath(place, folder.resolve()))
        return folder / inside if ".." not in inside.parts and place.is_dir() else None
    except (OSError, ValueError):  # no name that a file system takes
        return None


def _not_followed(folder: Path, file: YoloFile) -> str:
    return (
        f"path: {file.base} in {file.path.name} is no folder inside {folder}, and was not followed: that folder counts"
    )


def _place(entry: str, base: Path, folder: Path, file: Path) -> Path | None:
    """What an entry of data.yaml means inside the dataset.

    Roboflow writes `../train/images` and means `train/images`, which is how Ultralytics takes it.
    """
    written = entry.replace("\\", "/")
    for place, name in ((base, written), (base, written.removeprefix("../")), (folder, written)):
        try:
            found = named_file(name, folder=place, root=folder, where=file)
        except DataError:
            continue
        if found.exists():
            return found
    return None


def _source(place: Path | None, entry: str, folder: Path, file: YoloFile, flaws: DefectCollector) -> _Source:
    if place is None:
        inside = entry.replace("\\", "/").removeprefix("../")
        named_file(inside, folder=folder, root=folder, where=file.path)  # which says so if it leads out of the dataset
        ignored = "" if _base(folder, file) else f" ({_not_followed(folder, file)})"
        raise DefectError(
            DefectKind.ABSENT,
            file.path,
            f"{entry!r} is not there; add it, take its split out, or name folders relative to {folder}{ignored}",
        )
    if place.is_dir():
        return _folder_source(place, folder)
    lines = Counter(line.strip() for line in read_text(place, most=_LIST_BYTES).splitlines() if line.strip())
    if not lines:
        raise DefectError(DefectKind.EMPTY, place, "names no image; fill it, or delete it")
    if repeated := [line for line, count in lines.items() if count > 1]:
        detail = f"names {len(repeated)} images more than once, such as {short(repeated[0])}; name each once"
        flaws.add(Defect(DefectKind.REPEATED_ID, place, detail))
    images: list[Path] = []
    unusable = DefectCollector()
    for line in lines:
        with unusable.collect():
            images.append(_listed(line, place, folder))
    if not images:
        unusable.raise_if_any()
    flaws.add(*unusable.defects)
    return _list_source(images, folder)


def _list_source(images: Sequence[Path], root: Path) -> _Source:
    return _Source(root, tuple(images), tuple(text for image in images if (text := _text_of(image, root))))


def _text_of(image: Path, root: Path) -> Path | None:
    """The image's label file, if it has one."""
    label = _label_of(image, root)
    return next(filter(is_file, (label, label.with_suffix(".TXT"))), None)


def _listed(line: str, file: Path, root: Path) -> Path:
    """The image that a line of a list means: relative to the list where it begins with `./`, else to the dataset.

    The other of both counts where the image is there alone. CVAT puts a folder `data` before the names, which is not in
    its archive.
    """
    bare = line.removeprefix("data/")
    folders = (file.parent, root) if line.startswith(("./", ".\\")) else (root, file.parent)
    for folder in folders:
        for name in (line, bare):
            with suppress(DataError):
                if is_file(image := named_file(name, folder=folder, root=root, where=file)):
                    return image
    return named_file(bare, folder=folders[0], root=root, where=file)


def _folder_source(place: Path, root: Path) -> _Source:
    labels = _label_of(place / "any", root).parent
    texts = (text for text in list_files(labels, (".txt",)) if text.name.lower() not in NO_LABELS)
    return _Source(place, tuple(list_images(place)), tuple(texts))


def _emptiness(split: str, parts: Sequence[_Source]) -> Iterator[Defect]:
    """What is wrong with a split without images, or of which no image has a label."""
    images = sum(len(part.images) for part in parts)
    if parts and not images:
        detail = f"split {split!r} has no images there; add them, or leave the split out"
        yield Defect(DefectKind.ABSENT, parts[0].folder, detail)
    elif images and not any(part.texts for part in parts):
        detail = (
            f"none of the {images} images of split {split!r} has a label file (labels/.../name.txt), so all of them "
            "would be background; add the labels, or leave the split out"
        )
        yield Defect(DefectKind.ABSENT, parts[0].folder, detail)


def _label_of(image: Path, root: Path) -> Path:
    """The image's path with the last folder `images` called `labels`; beside the image where there is none."""
    parts = list(image.relative_to(root).parts)
    if IMAGES in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index(IMAGES)] = LABELS
    return root.joinpath(*parts).with_suffix(".txt")


def _records(parts: Sequence[_Source], root: Path) -> tuple[tuple[Record, ...], list[Defect]]:
    """Ids are relative to the folder of a split that has one, else to the dataset."""
    origin = parts[0].folder if len(parts) == 1 else root
    by_id: dict[str, Record] = {}
    defects: list[Defect] = []
    for part in parts:
        texts: dict[Path, Path] = {}  # whatever the case of their extensions
        for text in part.texts:
            first = texts.setdefault(text.with_suffix(".txt"), text)
            if first != text:
                defects.append(Defect(DefectKind.SAME_STEM, text, f"{first} is there too, and one image for both"))
        labels = {image: _label_of(image, root) for image in part.images}
        for image, label in labels.items():
            id = image.relative_to(origin).with_suffix("").as_posix()
            record = Record(id, image, texts.get(label))
            other = by_id.setdefault(id, record)
            if other is not record:
                kind = DefectKind.REPEATED_ID if other.image == image else DefectKind.SAME_STEM
                defects.append(Defect(kind, image, f"{other.image} is there too, and one label file for both"))
        for label in sorted(set(texts).difference(labels.values())):
            defects.append(
                Defect(DefectKind.MISSING_IMAGE, texts[label], f"there is no image of this name in {part.folder}")
            )
    return tuple(by_id.values()), defects


def _lines(files: Iterable[Path]) -> Iterator[list[str]]:
    """The words of each line that is not empty; damaged files are left to the check of all of them."""
    for file in sorted(files):
        try:
            text = read_text(file)
        except DataError:
            continue
        yield from (line.split() for line in text.splitlines() if line.strip())


def _begins_with_number(files: Iterable[Path]) -> bool:
    """Whether these may be labels at all: the first word of the first line is the number of a class."""
    return next((words[0].isdecimal() for words in _lines(files)), bool(files))


def _refuse_boxes(folder: Path, files: Iterable[Path]) -> None:
    """Refuse labels for detection at once; single boxes among outlines are found by the check of all files."""
    words = [len(words) for words in islice(_lines(files), _LINES_LOOKED_AT)]
    if words and all(count == _BOX for count in words):
        raise DefectError(
            DefectKind.BAD_ANNOTATION,
            folder,
            "the labels are boxes (class, centre, width, height), and boxes are no masks; export the dataset for "
            "segmentation, with the outlines of objects (class x1 y1 x2 y2 x3 y3 ...)",
        )


def _names_from_list(folder: Path, flaws: DefectCollector) -> dict[int, str]:
    """Names by class number from classes.txt, if there is one."""
    file = child_file(folder, CLASS_NAMES)
    if file is None:
        return {}
    names: list[str] = []
    with flaws.collect():
        names = [line.strip() for line in read_text(file).rstrip().splitlines()]
        if not any(names):
            raise DefectError(DefectKind.BAD_ANNOTATION, file, "names no class; add them, or delete the file")
        if "" in names:
            detail = f"line {names.index('') + 1} is empty, and a class is known by its line; name it"
            raise DefectError(DefectKind.BAD_ANNOTATION, file, detail)
    return dict(enumerate(names)) if "" not in names else {}


def _numbered(files: Iterable[Path]) -> dict[int, str]:
    """A name for every number up to the highest that the labels have."""
    numbers = (words[0] for words in _lines(files))
    highest = max((int(number) for number in numbers if number.isdecimal() and len(number) < _DIGITS), default=0)
    return {number: f"class {number}" for number in range(highest + 1)}


FORMAT = DatasetFormat(
    "yolo",
    "images, and labels with one text file of outlines for each image; data.yaml",
    detect=read_yolo,
    read=already_read,
)
