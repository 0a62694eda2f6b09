"""COCO's panoptic format: `annotations/panoptic_train2017.json` beside a folder of its PNG files, and `train2017/`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.safe_paths import named_file
from pyramidseg.data.records import Record
from pyramidseg.formats.coco.annotations import CocoJson
from pyramidseg.formats.coco.categories import CategoryLabels
from pyramidseg.formats.coco.coco_layout import CocoImages, annotation_files, image_notes, is_there, read_splits
from pyramidseg.formats.coco.panoptic_masks import PanopticFile, PanopticValues
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames, already_read

_TRIED = 16


def read_coco_panoptic(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """List panoptic files with their PNG files.

    Raises:
        DataError: a file that is no panoptic file, or whose images or PNG files are nowhere.
    """
    listed = annotation_files(folder, splits, panoptic=True)
    if not listed.of_split:
        return None
    read = read_splits(listed.of_split, folder, splits, check=lambda file: _png_folder(file, folder))
    if not read.files:
        return ParsedDataset(
            "COCO panoptic", dict.fromkeys(listed.of_split, ()), defects=(*listed.defects, *read.defects)
        )
    files, found = read.files, read.images
    labels = CategoryLabels.of_segments(list(files.values()))
    segments = {split: _segments_by_image(file, folder) for split, file in files.items()}
    values = PanopticValues(
        tuple(PanopticFile(file.slices, labels.values_of(file)) for file in files.values()),
        {str(png): (number, row) for number, some in enumerate(segments.values()) for row, png in some.pngs.values()},
        labels.names,
    )
    records = {split: tuple(_records(found[split], segments[split])) for split in files}
    return ParsedDataset(
        f"COCO panoptic ({', '.join(str(file.path.relative_to(folder)) for file in files.values())})",
        {**dict.fromkeys(listed.of_split, ()), **records},
        labels.labels,
        values,
        notes=(*listed.notes(), *read.notes, *labels.notes, *image_notes(files, found)),
        defects=(
            *listed.defects,
            *read.defects,
            *(defect for some in segments.values() for defect in some.defects),
            *(defect for split in files for defect in _without_segments(found[split], segments[split])),
        ),
    )


@dataclass(frozen=True)
class _Segments:
    """The annotations of a file, by the position of their image: which one it is, and its PNG."""

    file: Path
    pngs: dict[int, tuple[int, Path]]
    defects: tuple[Defect, ...]


def _png_folder(file: CocoJson, root: Path) -> Path:
    """Where the PNG files of a file lie.

    Raises:
        DataError: they are nowhere, or it names none.
    """
    if not file.panoptic:
        raise DefectError(
            DefectKind.BAD_ANNOTATION,
            file.path,
            "holds no panoptic segments (segments_info); leave panoptic out of its name",
        )
    tried = [file.path.with_suffix(""), root / file.path.stem, file.path.parent]
    for folder in tried:
        if any(is_there(name, folder, root, file.path) for name in file.segment_files[:_TRIED]):
            return folder
    named_file(file.segment_files[0], folder=tried[0], root=root, where=file.path)  # says so if it leads elsewhere
    raise DefectError(
        DefectKind.ABSENT,
        file.path,
        f"its PNG files, such as {file.segment_files[0]!r}, are in none of {', '.join(map(str, tried))}; unpack them "
        "there",
    )


def _segments_by_image(file: CocoJson, root: Path) -> _Segments:
    folder, flaws = _png_folder(file, root), DefectCollector()
    pngs: dict[int, tuple[int, Path]] = {}
    taken: dict[Path, int] = {}
    for row, (position, name) in enumerate(zip(file.image_numbers.tolist(), file.segment_files, strict=True)):
        if position < 0:
            continue
        with flaws.collect():
            png = named_file(name, folder=folder, root=root, where=file.path)
            if position in pngs:
                detail = f"is of an image that {pngs[position][1]} is of too, in {file.path}; take one of them out"
                raise DefectError(DefectKind.REPEATED_ID, png, detail)
            if taken.setdefault(png, position) != position:
                raise DefectError(DefectKind.REPEATED_ID, png, f"is of two images in {file.path}; take one of them out")
            pngs[position] = row, png
    return _Segments(file.path, pngs, flaws.defects)


def _records(images: CocoImages, segments: _Segments) -> Iterator[Record]:
    for position, path in images.paths.items():
        if position in segments.pngs:
            yield Record(images.ids[position], path, segments.pngs[position][1])


def _without_segments(images: CocoImages, segments: _Segments) -> Iterator[Defect]:
    for position, path in images.paths.items():
        if position not in segments.pngs:
            yield Defect(DefectKind.MISSING_MASK, path, f"{segments.file} has no segments of it")


FORMAT = DatasetFormat(
    "coco_panoptic",
    "panoptic_{split}.json, its folder of PNG files, and the images",
    detect=read_coco_panoptic,
    read=already_read,
)
