"""COCO's panoptic segments: PNG files whose colours are segment numbers; the JSON file gives the category of each.

Source: Kirillov et al. 2019, arXiv 1801.00868, and the COCO data format: the number of a segment is
R + 256 G + 256^2 B, and 0 is void. The package shows the format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location
from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import JsonSlices, parse_again
from pyramidseg.base.safe_paths import is_file, resolve_inside
from pyramidseg.data.color_masks import read_colors
from pyramidseg.data.index_masks import NamedValues
from pyramidseg.data.records import Record
from pyramidseg.formats.coco.categories import VOID, CategoryLabels, CategoryNames, category_names
from pyramidseg.formats.coco.coco_files import AnnotationFiles, CocoSplit, find_annotation_files, parse_splits
from pyramidseg.formats.coco.coco_json import CocoJson, Id
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames

_SAMPLED = 16


def detect(folder: Path, splits: SplitNames) -> AnnotationFiles | None:
    """Find the JSON file of each split."""
    return find_annotation_files(folder, splits, panoptic=True)


def read(found: AnnotationFiles, _: object) -> ParsedDataset:
    """Parse the JSON files, find their images and PNG files, name the classes, and list the records."""
    splits = parse_splits(found, check=lambda json: _png_folder(json, found.root))
    records: dict[str, tuple[Record, ...]] = dict.fromkeys(found.of_split, ())
    if not splits.by_name:
        return ParsedDataset("COCO panoptic", records, notes=splits.notes, defects=splits.defects)
    labels = CategoryLabels.of_files(splits.files, panoptic=True)
    defects = DefectCollector()
    segments: dict[str, Segments] = {}
    missing: list[Defect] = []
    for name, split in splits.by_name.items():
        names = labels.names_of(split.json)
        pngs = _pngs_by_position(split, found.root, defects)
        segments |= {str(png): Segments(split.json.slices, row, names) for row, png in pngs.values()}
        records[name] = tuple(
            Record(record.id, record.image, pngs[position][1])
            for position, record in split.images.items()
            if position in pngs
        )
        detail = f"{split.json.path} has no segments for it"
        bare = (record.image for position, record in split.images.items() if position not in pngs)
        missing += [Defect(DefectKind.MISSING_MASK, image, detail) for image in bare]
    return ParsedDataset(
        f"COCO panoptic ({', '.join(str(json.path.relative_to(found.root)) for json in splits.files)})",
        records,
        labels.labels,
        PanopticMasks(segments, labels.values, labels.names),
        notes=(*splits.notes, *labels.notes),
        defects=(*splits.defects, *defects.defects, *missing),
    )


FORMAT = DatasetFormat(
    "coco_panoptic",
    "panoptic_{split}.json, a folder of its PNG files, and the images",
    detect,
    read,
    covers=("paired",),
)


def _png_folder(json: CocoJson, root: Path) -> Path:
    """The folder of a file's PNG files.

    Raises:
        DefectError: the file is not panoptic, or no folder contains its PNG files.
    """
    if not json.panoptic:
        raise Location(json.path).error("holds no panoptic segments (segments_info); remove panoptic from its name")
    tried = [json.path.with_suffix(""), root / json.path.stem, json.path.parent]
    for folder in tried:
        if any(is_file(folder / name.replace("\\", "/")) for name in json.segment_files[:_SAMPLED]):
            return folder
    resolve_inside(json.segment_files[0], folder=tried[0], root=root, where=json.path)  # raises if it leads elsewhere
    places = ", ".join(map(str, tried))
    detail = f"its PNG files, such as {json.segment_files[0]!r}, are in none of {places}; unpack them there"
    raise DefectError(DefectKind.ABSENT, json.path, detail)


def _pngs_by_position(split: CocoSplit, root: Path, defects: DefectCollector) -> dict[int, tuple[int, Path]]:
    """The annotation's row and the PNG file of each image."""
    json, folder = split.json, _png_folder(split.json, root)
    pngs: dict[int, tuple[int, Path]] = {}
    taken: dict[Path, int] = {}
    for row, (position, name) in enumerate(zip(json.image_positions.tolist(), json.segment_files, strict=True)):
        if position < 0:
            continue
        with defects.collect():
            png = resolve_inside(name, folder=folder, root=root, where=json.path)
            if position in pngs:
                detail = f"belongs to the same image as {pngs[position][1]} in {json.path}; remove one of them"
                raise DefectError(DefectKind.REPEATED_ID, png, detail)
            if taken.setdefault(png, position) != position:
                detail = f"belongs to two images in {json.path}; remove one of them"
                raise DefectError(DefectKind.REPEATED_ID, png, detail)
            pngs[position] = row, png
    return pngs


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of one PNG file.

    Attributes:
        slices, row: the annotation, and where it is in the JSON file.
        names: labels by category id.
    """

    slices: JsonSlices
    row: int
    names: Mapping[Id, CategoryNames]


@dataclass(frozen=True, eq=False)
class PanopticMasks(NamedValues):
    """Reads the mask of a record, whose `mask` is the PNG file.

    Attributes:
        segments: by the path of the PNG file.
        values: by label.
        names: of the classes, by value.
    """

    segments: Mapping[str, Segments]
    values: Mapping[str, int]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = (VOID,)

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        found = self.segments.get(str(record.mask))
        if found is None or record.mask is None:
            raise DataError(f"{record.image}: is in none of the annotation files of this dataset")
        annotation = parse_again(found.slices.read([found.row])[0], found.slices.path)
        value_of, defects = {VOID: VOID}, DefectCollector()
        for segment in annotation["segments_info"]:
            with defects.collect():
                number, names = _segment(segment, found, record)
                value_of[number] = self.values[names.crowds if segment.get("iscrowd") else names.objects]
        defects.raise_if_any()
        colors = read_colors(record.mask)
        numbers = (colors >> 16) | (colors & 0xFF00) | (colors & 0xFF) << 16  # red + 256 green + 65536 blue
        return _look_up(numbers.astype(np.uint32), value_of, found.slices.path, record.mask)


def _segment(segment: Any, found: Segments, record: Record) -> tuple[int, CategoryNames]:
    """The number of a segment, and the labels of its category."""
    file = found.slices.path
    number = segment.get("id") if isinstance(segment, dict) else None
    if not isinstance(number, int) or not 0 < number < 2**24:
        detail = f"segment id {str(number)[:40]} is not a whole number from 1 to {2**24 - 1}"
        raise Location(file, record.id).error(detail)
    return number, category_names(segment, found.names, Location(file, f"segment {number} of {record.id}"))


def _look_up(numbers: NDArray[np.uint32], value_of: Mapping[int, int], file: Path, png: Path) -> NDArray[np.uint16]:
    """The value of each pixel. Each run of equal numbers is looked up once: there are far fewer runs than pixels."""
    flat = numbers.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    known = np.array(sorted(value_of), np.uint32)
    place = np.searchsorted(known, flat[starts]).clip(max=len(known) - 1)
    unknown = np.unique(flat[starts][known[place] != flat[starts]])
    if len(unknown):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise Location(png).error(
            f"holds pixels of segment {unknown[0]}{more}, which {file} does not list for this image"
        )
    values = np.array([value_of[number] for number in known.tolist()], np.uint16)[place]
    return np.repeat(values, np.diff(starts, append=flat.size)).reshape(numbers.shape)
