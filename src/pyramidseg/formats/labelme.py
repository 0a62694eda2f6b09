"""LabelMe: a JSON file for each image, next to it or in a folder of its own; in folders for the splits, or without.

    images/a.jpg    images/a.json    or    train/a.jpg  train/a.json  val/b.jpg  val/b.json

    {"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "imageData": null,
     "shapes": [{"label": "fig", "shape_type": "polygon", "points": [[x1, y1], [x2, y2], ...]},
                {"label": "fig", "shape_type": "mask", "points": [first, last pixel], "mask": "PNG in base64"}, ...]}

`labelme_writer` writes it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.safe_paths import is_file, resolve_inside
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.labelme_masks import WITHOUT_AREA, LabelMeFile, LabelMeMasks, label_of, read_labelme, shape_type
from pyramidseg.formats.paths import child_folder
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels, similar_names_note
from pyramidseg.images.image_files import list_files, list_images

_SAMPLED = 20
"""Number of JSON files that are looked at to recognise the format."""


@dataclass(frozen=True)
class LabelMeFiles:
    """The folder and the JSON files of each split."""

    folder: Path
    splits: Mapping[str, tuple[Path, Sequence[Path]]]


def detect(folder: Path, splits: SplitNames) -> LabelMeFiles | None:
    """Find JSON files, some of which begin as LabelMe's do: in folders of splits, or else in the whole folder."""
    files = list_files(folder, (".json",))
    if not any(json_kind(file) == "labelme" for file in files[:: max(1, len(files) // _SAMPLED)]):
        return None
    places = {split: child_folder(folder, names) for split, names in splits.items()}
    found = {split: (place, list_files(place, (".json",))) for split, place in places.items() if place}
    if any(some for _, some in found.values()):
        return LabelMeFiles(folder, {split: (place, some) for split, (place, some) in found.items() if some})
    return LabelMeFiles(folder, {"train": (folder, files)}) if splits == SPLIT_NAMES else None


def read(found: LabelMeFiles) -> ParsedDataset:
    """List JSON files with the images that they name. An image without a file has no labels and is left out."""
    images = list_images(found.folder)
    splits = {split: _read_split(files, images, place, found.folder) for split, (place, files) in found.splits.items()}
    labels = sorted({label for split in splits.values() for label in split.labels})
    drawn = DrawnLabels.of(labels)
    return ParsedDataset(
        "LabelMe (a JSON file for each image)",
        {name: tuple(split.records.values()) for name, split in splits.items()},
        drawn.labels,
        LabelMeMasks(drawn.values, drawn.names),
        notes=(*_notes(list(splits.values()), images), *similar_names_note(labels)),
        defects=tuple(defect for split in splits.values() for defect in split.defects),
    )


FORMAT = DatasetFormat("labelme", "a JSON file next to each image", detect, read)


@dataclass
class _Split:
    """What the files of a split hold.

    Attributes:
        labels, types: number of shapes with each label, and of each type.
        others: JSON files that are not LabelMe's.
        renamed: number of files whose image has another name than they give.
    """

    records: dict[Path, Record] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    defects: list[Defect] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    renamed: int = 0


def _read_split(files: Sequence[Path], images: Sequence[Path], place: Path, root: Path) -> _Split:
    split = _Split()
    known = set(images)
    by_stem = {image.with_suffix(""): image for image in reversed(images)}
    for path, file in zip(files, map_in_threads(_read_without_points, files), strict=True):
        if isinstance(file, Defect):
            split.defects.append(file)
        elif file.shapes is None:
            split.others.append(path)
        else:
            _add(split, file, known, by_stem.get(path.with_suffix("")), place, root)
    if files and len(split.others) == len(files):
        detail = f"none of its {len(files)} JSON files is LabelMe's, as those of other splits are; export them again"
        split.defects.append(Defect(DefectKind.ABSENT, place, detail))
    return split


def _read_without_points(path: Path) -> LabelMeFile | Defect:
    """A file without the points of its shapes, so that many fit into memory."""
    try:
        file = read_labelme(path)
    except DefectError as error:
        return error.defect
    for shape in file.shapes or []:
        if isinstance(shape, dict):
            shape.pop("points", None)
            shape.pop("mask", None)
    return file


def _add(split: _Split, file: LabelMeFile, known: set[Path], same_stem: Path | None, place: Path, root: Path) -> None:
    shapes = file.shapes or []
    split.labels.update(label for shape in shapes if (label := label_of(shape)))
    split.types.update(shape_type(shape) for shape in shapes)
    try:
        image, renamed = _image_of(file, known, same_stem, root)
    except DefectError as error:
        split.defects.append(error.defect)
        return
    if image in split.records:
        detail = f"belongs to the image {image}, and so does {split.records[image].mask}; remove one of them"
        split.defects.append(Defect(DefectKind.REPEATED_ID, file.path, detail))
        return
    split.renamed += renamed
    id = image.relative_to(place if image.is_relative_to(place) else root).with_suffix("").as_posix()
    split.records[image] = Record(id, image, file.path)


def _image_of(file: LabelMeFile, known: set[Path], same_stem: Path | None, root: Path) -> tuple[Path, bool]:
    """The image that a file names; if it names none, or one that does not exist, the image next to it of the same name.

    Returns:
        The image, and whether its name differs from the one that the file gives.

    Raises:
        DefectError: there is none, its path leads out of the dataset, or both names exist and differ.
    """
    if file.image_path is None and same_stem is not None:
        return same_stem, False
    if same_stem is not None and PureWindowsPath(str(file.image_path)).stem == same_stem.stem:
        with suppress(DefectError):  # file and image were moved together: the path leads elsewhere and is not followed
            image = resolve_inside(file.image_path, folder=file.path.parent, root=root, where=file.path)
            return (image, False) if image in known or is_file(image) else (same_stem, True)
        return same_stem, True
    image = resolve_inside(file.image_path, folder=file.path.parent, root=root, where=file.path)
    if image not in known and not is_file(image):
        if same_stem is not None:
            return same_stem, True
        detail = f"belongs to the image {image} (imagePath), which does not exist"
        raise DefectError(DefectKind.MISSING_IMAGE, file.path, detail)
    if same_stem is not None and image.stem != file.path.stem:
        detail = f"belongs to the image {image} by its imagePath, but to {same_stem} by its name; correct one of them"
        raise DefectError(DefectKind.BAD_ANNOTATION, file.path, detail)
    return image, False


def _notes(splits: Sequence[_Split], images: Sequence[Path]) -> Iterator[str]:
    yield f"{DRAWN}; where shapes overlap, the later is on top, as in LabelMe; labels are in alphabetical order"
    without_area = {type: sum(split.types[type] for split in splits) for type in WITHOUT_AREA}
    if any(without_area.values()):
        counts = ", ".join(f"{count} {type}" for type, count in without_area.items() if count)
        yield f"shapes without an area are not drawn ({counts}); convert them to polygons if they are needed"
    renamed = sum(split.renamed for split in splits)
    if renamed:
        yield f"{renamed} files name an image (imagePath) that does not exist: the image of the same name was used"
    used = {image.with_suffix("") for split in splits for image in split.records}
    used |= {defect.file.with_suffix("") for split in splits for defect in split.defects}
    unlabelled = [image for image in images if image.with_suffix("") not in used]
    if unlabelled:
        yield f"{len(unlabelled)} images, such as {unlabelled[0]}, have no LabelMe file and were left out"
    others = [path for split in splits for path in split.others]
    if others:
        yield f"{len(others)} JSON files, such as {others[0]}, are not LabelMe's and were left out"
