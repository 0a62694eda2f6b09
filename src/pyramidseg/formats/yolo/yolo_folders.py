"""Detect and read YOLO datasets. The package shows the format."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.text_files import read_text
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import UNLABELLED_SPLIT, DatasetFormat, ParsedDataset, PartialMatch, SplitNames
from pyramidseg.formats.paths import child_file, subfolders
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels, repeated_names_note, similar_names_note
from pyramidseg.formats.yolo.data_yaml import DataYaml, find_data_yaml
from pyramidseg.formats.yolo.image_sources import CLASS_NAMES, LABELS, ImageSource, find_sources, label_path
from pyramidseg.formats.yolo.label_files import YoloMasks, are_labels, check_not_boxes, numbered_names


@dataclass(frozen=True)
class YoloFiles:
    """The description, if there is one, and the images and label files of each split."""

    folder: Path
    description: DataYaml | None
    sources: Mapping[str, Sequence[ImageSource]]
    notes: tuple[str, ...]
    defects: tuple[Defect, ...]

    @property
    def labels(self) -> set[Path]:
        return {label for parts in self.sources.values() for part in parts for label in part.labels}


def detect(folder: Path, splits: SplitNames) -> YoloFiles | None:
    """Find data.yaml, or folders `labels` whose text files begin with class numbers.

    Raises:
        PartialMatch: data.yaml cannot be read, or there is one but no labels.
    """
    collector = DefectCollector()
    description = find_data_yaml(folder, collector)
    unreadable = collector.defects
    if description is not None or any((place / LABELS).is_dir() for place in (folder, *subfolders(folder))):
        sources, notes = find_sources(folder, splits, description, collector)
        found = YoloFiles(folder, description, sources, notes, collector.defects)
        if description is not None and not found.labels and found.defects == unreadable:
            raise PartialMatch(f"{description.path} names classes, but no image has a label file (labels/.../name.txt)")
        if description is not None or are_labels(found.labels):
            return found
    if unreadable:
        raise PartialMatch(f"{unreadable[0].file}: {unreadable[0].detail}")
    return None


def read(found: YoloFiles) -> ParsedDataset:
    """List images with their label files. An image without one is background, as it is for YOLO.

    Raises:
        DefectError: all labels are boxes.
    """
    check_not_boxes(found.folder, found.labels)
    collector, notes = DefectCollector(), list(found.notes)
    names = found.description.names if found.description else _names_from_list(found.folder, collector)
    if not names:
        names = numbered_names(found.labels)
        unreadable = found.defects or collector.defects
        why = "the names cannot be read" if unreadable else "there is no data.yaml with names"
        notes.append(f"{why}: the {len(names)} classes are called by their numbers")
    notes += repeated_names_note([names.values()], what="classes")
    drawn = DrawnLabels.of(names[number] for number in sorted(names))
    records: dict[str, tuple[Record, ...]] = {}
    defects = [*found.defects, *collector.defects]
    for split, parts in found.sources.items():
        if split == UNLABELLED_SPLIT and not any(part.images and part.labels for part in parts):
            folders = ", ".join(str(part.folder) for part in parts)
            notes.append(f"the test split ({folders}) has no labels and was left out")
            records[split] = ()
            continue
        records[split], wrong = _records(parts, found.folder)
        defects += [*wrong, *_empty_split(split, parts)]
        without = sum(record.mask is None for record in records[split])
        if without:
            notes.append(f"{without} of the {len(records[split])} {split} images have no label file: all background")
    return ParsedDataset(
        f"YOLO outlines ({found.description.path.name if found.description else 'images, labels'})",
        records,
        drawn.labels,
        YoloMasks({number: drawn.values[name] for number, name in names.items()}, drawn.names),
        notes=(f"{DRAWN}; where objects overlap, the smaller is on top", *notes, *similar_names_note(drawn.names)),
        defects=tuple(defects),
    )


FORMAT = DatasetFormat(
    "yolo", "images, and labels with one text file of outlines for each image; data.yaml", detect, read
)


def _names_from_list(folder: Path, defects: DefectCollector) -> dict[int, str]:
    """Names by class number from classes.txt, if there is one."""
    file = child_file(folder, CLASS_NAMES)
    if file is None:
        return {}
    with defects.collect():
        names = [line.strip() for line in read_text(file).rstrip().splitlines()]
        if not any(names):
            raise DefectError(DefectKind.BAD_ANNOTATION, file, "names no class; add them, or delete the file")
        if "" in names:
            detail = f"line {names.index('') + 1} is empty, but the line number is the class number; name the class"
            raise DefectError(DefectKind.BAD_ANNOTATION, file, detail)
        return dict(enumerate(names))
    return {}


def _records(parts: Sequence[ImageSource], root: Path) -> tuple[tuple[Record, ...], list[Defect]]:
    """Ids are relative to the split's folder if there is only one, else to the dataset."""
    origin = parts[0].folder if len(parts) == 1 else root
    by_id: dict[str, Record] = {}
    defects: list[Defect] = []
    for part in parts:
        labels: dict[Path, Path] = {}  # by the path with the extension in lower case
        for label in part.labels:
            first = labels.setdefault(label.with_suffix(".txt"), label)
            if first != label:
                defects.append(Defect(DefectKind.SAME_STEM, label, f"{first} is there too, and one image for both"))
        expected = {image: label_path(image, root) for image in part.images}
        for image, label in expected.items():
            id = image.relative_to(origin).with_suffix("").as_posix()
            record = Record(id, image, labels.get(label))
            other = by_id.setdefault(id, record)
            if other is not record:
                kind = DefectKind.REPEATED_ID if other.image == image else DefectKind.SAME_STEM
                defects.append(Defect(kind, image, f"{other.image} is there too, and one label file for both"))
        for label in sorted(set(labels).difference(expected.values())):
            detail = f"there is no image of this name in {part.folder}"
            defects.append(Defect(DefectKind.MISSING_IMAGE, labels[label], detail))
    return tuple(by_id.values()), defects


def _empty_split(split: str, parts: Sequence[ImageSource]) -> Iterator[Defect]:
    """A defect if a split has no images, or if no image has a label file."""
    images = sum(len(part.images) for part in parts)
    if parts and not images:
        detail = f"split {split!r} has no images in this folder; add them, or remove the split"
        yield Defect(DefectKind.ABSENT, parts[0].folder, detail)
    elif images and not any(part.labels for part in parts):
        detail = (
            f"none of the {images} images of split {split!r} has a label file (labels/.../name.txt), so all of them "
            "would be background; add the labels, or remove the split"
        )
        yield Defect(DefectKind.ABSENT, parts[0].folder, detail)
