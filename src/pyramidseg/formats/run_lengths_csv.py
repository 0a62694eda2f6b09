"""CSV of run lengths, as Kaggle's competitions have it: a row for each region, class or image; and the images.

    train.csv    images/a.jpg

    ImageId,EncodedPixels[,ClassId]    or    ImageId_ClassId,EncodedPixels
    a.jpg,31632 6 31886 10             or    a.jpg_1,31632 6 31886 10

`EncodedPixels` holds the first pixel and the length of each run. The pixels are numbered down the columns or along the
rows, from 1 or 0; the file does not state it, so `data.run_lengths` does.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location, runs_of_pixels
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import first_bytes, is_valid_name, open_regular, short
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.region_masks import ONE_CLASS, Region, Size, numbered
from pyramidseg.formats.regions import Entry, ImageFinder, Listing, ToolExport, export_files, region_dataset
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousReadingError
from pyramidseg.images.decode import image_size
from pyramidseg.images.image_files import is_image_name, list_images

_RUNS = re.compile(r"encoded_?pixels|rle|rle_?mask|mask_?rle|encoding|run_?lengths?|segmentation_?rle", re.IGNORECASE)
_RUNS_OR_FILES = re.compile(r"annotation|segmentation", re.IGNORECASE)
"""Names of columns of run lengths, or of the files of masks in a list of pairs."""

_IMAGE = re.compile(r"image_?id|id|img|image|image_?name|file_?name|image_?id_?class_?id|image_?label", re.IGNORECASE)
_CLASS = re.compile(r"class|class_?id|class_?name|label|category|category_?id|defect_?type", re.IGNORECASE)
_ORDERS = {
    "columns-1": ("columns", 1, "pixels are numbered down the columns from 1, as most competitions of Kaggle do"),
    "columns-0": ("columns", 0, "pixels are numbered down the columns from 0"),
    "rows-1": ("rows", 1, "pixels are numbered along the rows from 1"),
    "rows-0": ("rows", 0, "pixels are numbered along the rows from 0"),
}
"""Direction, number of the first pixel, and meaning, by value of the setting."""

_EMPTY = ("", "-1", "nan", "none", "null")
"""Values of rows without pixels."""

_MAX_LINE = 2**24
_NUMBERS = re.compile(r"[0-9 ]*")


class Columns(NamedTuple):
    """Positions of columns; `label` is None if the class is in the name of the image, or there is none."""

    image: int
    runs: int
    label: int | None
    delimiter: str


def detect(folder: Path, splits: SplitNames) -> ToolExport | None:
    """Find CSV files whose header names a column of images and one of run lengths."""
    files = export_files(folder, ".csv")
    names = {path.name for path in files if _columns_of(path)}
    found = tuple(path for path in files if path.name in names)  # a damaged one of the same name is then a defect
    return ToolExport(folder, splits, found) if found else None


def read(found: ToolExport, config: LabelConfig) -> ParsedDataset:
    """List the images of all rows.

    Raises:
        AmbiguousReadingError: the numbering of the pixels was not stated.
    """
    listing, possible, finder = Listing(), {*_ORDERS}, ImageFinder(list_images(found.root))
    for file in found.files:
        with listing.defects.collect():
            _list_table(file, finder, listing, possible)
    order = config.run_lengths
    if order is None:
        raise AmbiguousReadingError(
            "the run lengths do not state how their pixels are numbered, and a wrong choice distorts all objects",
            [Alternative(_ORDERS[it][2], {"run_lengths": it}) for it in _ORDERS if it in possible or not possible],
        )
    listing.notes.append(f"{_ORDERS[order][2]} (data.run_lengths={order})")
    regions, overlap = partial(_regions, order=order), "the smaller one is on top"
    return region_dataset("CSV of run lengths", found, listing, regions=regions, parse=_objects, overlap=overlap)


FORMAT = DatasetFormat(
    "run_lengths_csv",
    "a CSV table with columns of images and of run lengths (ImageId, EncodedPixels), and the images",
    detect,
    read,
    settings=("run_lengths",),
)


def _columns_of(file: Path) -> Columns | None:
    """The columns that the header names; None if it is another table."""
    first, *lines = first_bytes(file, 2**16).split(b"\n")
    delimiter = ";" if first.count(b";") > first.count(b",") else ","
    header = [name.strip() for name in _cells(first, delimiter)]
    runs = [index for index, name in enumerate(header) if _RUNS.fullmatch(name)]
    labels = [index for index, name in enumerate(header) if _CLASS.fullmatch(name)]
    images = [index for index, name in enumerate(header) if _IMAGE.fullmatch(name) and index not in labels]
    if not runs:
        unclear = [index for index, name in enumerate(header) if _RUNS_OR_FILES.fullmatch(name)]
        runs = [index for index in unclear if _are_runs(_cells(line, delimiter)[index:] for line in lines)]
    if len(runs) != 1 or not images:
        return None
    return Columns(images[0], runs[0], labels[0] if labels else None, delimiter)


def _are_runs(rows: Iterable[list[str]]) -> bool:
    """Whether the first cell of the rows that is not empty has numbers."""
    cells = (row[0].strip() for row in rows if row)
    filled = next((cell for cell in cells if cell.lower() not in _EMPTY), "none")
    return _NUMBERS.fullmatch(filled) is not None


def _cells(line: bytes, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(line.decode("utf-8-sig")), delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _lines(stream: IO[bytes], file: Path) -> Iterator[tuple[int, bytes]]:
    """Each line after the header that is not empty, and its first byte."""
    start = len(stream.readline(2**16))
    while line := stream.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise Location(file).error(f"a line has more than {_MAX_LINE // 2**20} MB")
        if line.strip():
            yield start, line
        start += len(line)


def _parse_row(line: bytes, columns: Columns, where: Location) -> tuple[str, str, str]:
    """The image, the class and the run lengths of a row."""
    cells = _cells(line, columns.delimiter)
    if len(cells) <= max(columns.image, columns.runs, columns.label or 0):
        raise where.error(f"has {len(cells)} columns, which are fewer than the header has, or is not UTF-8")
    image, runs = cells[columns.image].strip(), cells[columns.runs].strip()
    if columns.label is not None:
        label = cells[columns.label].strip()
    else:
        name, _, after = image.rpartition("_")
        label = after if is_image_name(name) else ""
        image = name if label else image
    if not image or not is_valid_name(image) or not is_valid_name(label):
        raise where.error(f"names the image {short(image)} and the class {short(label)}, which are not usable names")
    return image, label, "" if runs.lower() in _EMPTY else runs


def _list_table(file: Path, finder: ImageFinder, listing: Listing, possible: set[str]) -> None:
    """List the images of a table.

    Args:
        possible: values of `_ORDERS`; those that a row excludes are removed. A run that begins at 0, or ends beyond the
            last pixel, excludes a first number. Nothing excludes columns or rows: both have as many pixels.
    """
    columns = _columns_of(file)
    if columns is None:
        raise Location(file).error(
            "its header has no columns of images and run lengths, but other files of this name do; export it again"
        )
    images: dict[str, tuple[list[tuple[int, int]], dict[str, None]]] = {}
    sizes: dict[str, Size] = {}
    with open_regular(file) as stream:
        for number, (start, line) in enumerate(_lines(stream, file), start=2):
            where = Location(file, f"line {number}")
            with listing.defects.collect():
                image, label, text = _parse_row(line, columns, where)
                spans, labels = images.setdefault(image, ([], {}))
                if not text:
                    continue
                spans.append((start, start + len(line)))
                labels[label or ONE_CLASS] = None
                runs = parse_runs(text, where)
                with suppress(DataError):  # an image that cannot be found or read is reported once, with its entry
                    if image not in sizes:
                        sizes[image] = image_size(finder.find(image, file))
                    first, end, pixels = runs[:, 0].min(), runs.sum(1).max(), math.prod(sizes[image])
                    possible.intersection_update(
                        order for order, (_, base, _) in _ORDERS.items() if base <= first < end <= pixels + base
                    )
    if not images:
        raise DefectError(DefectKind.EMPTY, file, "has no rows; export it again")
    for image, (spans, labels) in images.items():
        listing.entries.append(Entry(image, file, tuple(spans), labels=tuple(labels)))


def parse_runs(text: str, where: Location) -> NDArray[np.int64]:
    """(runs, 2): first pixel and length of each run.

    Raises:
        DataError: not pairs of whole numbers, or a length of 0.
    """
    fields = text.split()
    if len(fields) % 2 or not _NUMBERS.fullmatch(text) or max(map(len, fields), default=0) > 12:
        raise where.error(f"its run lengths {short(text)} have to be pairs of whole numbers: first pixel, and length")
    runs = np.array(fields, np.int64).reshape(-1, 2)
    if runs.size and runs[:, 1].min() < 1:
        raise where.error("its run lengths contain a run of 0 pixels; export it again")
    return runs


def _objects(data: Sequence[bytes], where: Location) -> Iterable[tuple[str, tuple[str, str]]]:
    """The class and the run lengths of each row; columns are found by the header of the file."""
    columns = _columns_of(where.file)
    if columns is None:
        raise where.error("has another header than before; start again")
    return numbered([_parse_row(line, columns, where)[1:] for line in data])


def _regions(labelled: tuple[str, str], size: Size, where: Location, order: str) -> Iterator[Region]:
    label, text = labelled
    height, width = size
    direction, base, _ = _ORDERS[order]
    runs = parse_runs(text, where) - (base, 0)
    starts, ends = runs[:, 0], runs.sum(1)
    if starts.min() < 0 or ends.max() > height * width:
        raise where.error(
            f"a run is outside of the {height} x {width} = {height * width} pixels of the image "
            f"(data.run_lengths={order})"
        )
    changes = np.zeros(height * width + 1, np.int32)
    np.add.at(changes, starts, 1)
    np.add.at(changes, ends, -1)
    flat = np.cumsum(changes[:-1]) > 0
    pixels = flat.reshape(width, height).T if direction == "columns" else flat.reshape(height, width)
    yield Region(label or ONE_CLASS, runs_of_pixels(pixels, height=height))
