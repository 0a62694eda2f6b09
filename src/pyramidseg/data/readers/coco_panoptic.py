"""COCO's panoptic format: `annotations/panoptic_train2017.json` beside a folder of its PNG files, and `train2017/`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pyramidseg.data.defect_kinds import Defect, Kind
from pyramidseg.data.masks.panoptic import PanopticFile, PanopticValues
from pyramidseg.data.readers.coco_images import CocoImages, find_images, image_notes
from pyramidseg.data.readers.coco_json import CocoJson, read_coco_json
from pyramidseg.data.readers.coco_labels import CategoryLabels
from pyramidseg.data.readers.coco_layout import annotation_files
from pyramidseg.data.readers.listing import Listing, SplitFolders
from pyramidseg.data.records import Record
from pyramidseg.data.references import is_file, named_file
from pyramidseg.errors import DataError


def read_coco_panoptic(folder: Path, splits: SplitFolders) -> Listing | None:
    """List panoptic files with their PNG files.

    Raises:
        DataError: a file that is no panoptic file, or whose images or PNG files are nowhere.
    """
    listed = annotation_files(folder, splits, panoptic=True)
    if not listed.of_split:
        return None
    files = {split: read_coco_json(path) for split, path in listed.of_split.items()}
    labels = CategoryLabels.of_segments(list(files.values()))
    found = {split: find_images(file, folder, splits[split]) for split, file in files.items()}
    masks = {split: _png_files(file, folder) for split, file in files.items()}
    rows = {split: _row_by_image(file) for split, file in files.items()}
    values = PanopticValues(
        tuple(PanopticFile(file.slices, labels.values_of(file)) for file in files.values()),
        {str(mask): (number, row) for number, split in enumerate(files) for row, mask in enumerate(masks[split])},
        labels.names,
    )
    return Listing(
        f"COCO panoptic ({', '.join(str(file.path.relative_to(folder)) for file in files.values())})",
        {split: tuple(_records(found[split], rows[split], masks[split])) for split in files},
        labels.labels,
        values,
        notes=(*listed.notes(), *labels.notes, *image_notes(files, found)),
        defects=tuple(
            defect
            for split, images in found.items()
            for defect in (*images.defects, *_without_segments(images, rows[split], files[split].path))
        ),
    )


def _png_files(file: CocoJson, root: Path) -> list[Path]:
    """The PNG of each annotation.

    Raises:
        DataError: they are nowhere.
    """
    if not file.panoptic:
        raise DataError(f"{file.path}: holds no panoptic segments (segments_info); leave panoptic out of its name")
    tried = [file.path.with_suffix(""), root / file.path.stem, file.path.parent]
    for folder in tried:
        files = [named_file(name, folder=folder, root=root, where=file.path) for name in file.segment_files]
        if is_file(files[0]):
            return files
    raise DataError(
        f"{file.path}: its PNG files, such as {file.segment_files[0]!r}, are in none of {', '.join(map(str, tried))}; "
        "unpack them there"
    )


def _row_by_image(file: CocoJson) -> dict[int, int]:
    """Which annotation is of which image, by its position.

    Raises:
        DataError: two are of one.
    """
    rows: dict[int, int] = {}
    for row, position in enumerate(file.image_numbers.tolist()):
        if position >= 0 and rows.setdefault(position, row) != row:
            first, second = file.segment_files[rows[position]], file.segment_files[row]
            raise DataError(f"{file.path}: {first} and {second} are of one image; take one of them out")
    return rows


def _records(images: CocoImages, rows: Mapping[int, int], masks: Sequence[Path]) -> Iterator[Record]:
    for position, path in images.paths.items():
        if position in rows:
            yield Record(images.ids[position], path, masks[rows[position]])


def _without_segments(images: CocoImages, rows: Mapping[int, int], file: Path) -> Iterator[Defect]:
    for position, path in images.paths.items():
        if position not in rows:
            yield Defect(Kind.MISSING_MASK, path, f"{file} has no segments of it")
