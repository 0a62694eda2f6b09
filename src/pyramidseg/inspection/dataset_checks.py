"""Checks across image-mask pairs: outliers, conflicting ids, EXIF orientations, palettes, GeoJSON files."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Color
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.class_masks import value_source
from pyramidseg.data.image_mask_checks import ExifStatus, exif_orientation
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.inspection.image_table import ImageTable

MAX_FACTOR = 4.0
"""An image is an outlier if its size or aspect ratio differs from the median by more than this factor."""

FILES_SHOWN = 10
"""Files that a remark names."""


def find_mixed_dtypes(table: ImageTable) -> Iterator[Defect]:
    """Images with another dtype than most; if two are equally frequent, than the one that occurred later."""
    known = np.flatnonzero(table.known)
    usual = _most_frequent(table.dtype[known])
    for index in known[table.dtype[known] != usual].tolist():
        mine, most = table.dtypes[table.dtype[index]], table.dtypes[usual]
        detail = f"has {mine} values, but most images have {most}; they cannot be mixed: convert one kind"
        yield Defect(DefectKind.MIXED_DEPTHS, table.records.record(index).image, detail)


def find_outliers(table: ImageTable) -> Iterator[Defect]:
    """Images with another number of channels than most, or of an unusual size or aspect ratio."""
    known = np.flatnonzero(table.known)
    if not len(known):
        return
    usual = _most_frequent(table.channels[known])
    for index in known[table.channels[known] != usual].tolist():
        mine = table.channels[index]
        detail = (
            f"has {mine} channel{'s' if mine > 1 else ''} (alpha not counted), but most images have {usual}; convert "
            "one kind"
        )
        yield Defect(DefectKind.MIXED_CHANNELS, table.records.record(index).image, detail)
    height, width = table.height[known].astype(np.float64), table.width[known].astype(np.float64)
    sides, aspects = np.sqrt(height * width), np.maximum(height, width) / np.minimum(height, width)
    side, aspect = float(np.median(sides)), float(np.median(aspects))
    for row in np.flatnonzero((sides > MAX_FACTOR * side) | (sides < side / MAX_FACTOR)).tolist():
        how = "larger" if sides[row] > side else "smaller"
        factor = max(sides[row] / side, side / sides[row])
        detail = (
            f"is {_size(table, known[row])} pixels, {factor:.1f} times {how} in each direction than the median image "
            f"(limit: {MAX_FACTOR:g} times); resize it, cut it into tiles, or remove it"
        )
        yield Defect(DefectKind.EXTREME_SIZE, table.records.record(int(known[row])).image, detail)
    for row in np.flatnonzero(aspects > MAX_FACTOR * aspect).tolist():
        detail = (
            f"is {_size(table, known[row])} pixels: its long side is {aspects[row]:.1f} times the short one, but "
            f"{aspect:.1f} times in the median image; cut it into tiles, or remove it"
        )
        yield Defect(DefectKind.EXTREME_ASPECT, table.records.record(int(known[row])).image, detail)


def _most_frequent(numbers: NDArray[np.signedinteger]) -> int:
    """The most frequent number; the largest of equally frequent ones, and -1 if there are none."""
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[len(counts) - 1 - np.argmax(counts[::-1])]) if len(values) else -1


def _size(table: ImageTable, index: int) -> str:
    return f"{table.height[index]} x {table.width[index]}"


def find_id_conflicts(splits: Mapping[str, tuple[Record, ...]]) -> Iterator[Defect]:
    """Ids that occur twice in a split, and ids that a case-insensitive file system would not tell apart."""
    for split, records in splits.items():
        first: dict[str, Record] = {}
        exact: set[str] = set()
        for record in sorted(
            records, key=lambda record: record.id
        ):  # the same defects in whatever order they are listed
            other = first.setdefault(record.id.casefold(), record)
            if record.id in exact:
                detail = f"has the id {record.id!r} of another image of split {split!r}; ids must differ"
                yield Defect(DefectKind.REPEATED_ID, record.image, detail)
            elif other is not record:
                detail = (
                    f"differs from {other.image.name} only in upper and lower case, and so do their masks: Windows and "
                    "macOS take them for one file; rename one"
                )
                yield Defect(DefectKind.CASE_COLLISION, record.image, detail)
            exact.add(record.id)


def unmatched_geojson_remarks(records: Collection[Record], masks: MaskSource) -> Iterator[str]:
    """A remark on images that are all background because no area of their GeoJSON file is on them.

    A file that several images share is not considered, because it is expected to miss some of them.
    """
    values = value_source(masks)
    if not isinstance(values, GeoJsonMasks):
        return
    shared = Counter(record.mask for record in records)
    missed: list[Path] = []
    for record in records:
        with suppress(DataError):  # reported for the record itself
            if shared[record.mask] == 1 and values.misses(record):
                missed.append(record.mask or record.image)
    if missed:
        yield (
            f"all areas of {len(missed)} GeoJSON files are outside their image, which therefore is background; check "
            "that image and file belong together, and that data.vector_crs is right: "
            f"{first_few(missed, limit=FILES_SHOWN)}"
        )


class ExifOrientations:
    """Collects the pairs of which an EXIF orientation turns the image or the mask."""

    def __init__(self) -> None:
        self._mask_fits = self._mask_unturned = 0
        self._image_turned: list[Record] = []
        self._mask_turned: list[Record] = []

    def add(self, record: Record, turn: ExifStatus) -> None:
        """Add one pair."""
        self._mask_fits += turn is ExifStatus.CONFIRMED
        self._mask_unturned += turn is ExifStatus.NOT_APPLIED
        if turn is ExifStatus.UNVERIFIED:
            self._image_turned.append(record)
        elif turn is ExifStatus.MASK_ONLY:
            self._mask_turned.append(record)

    def defects(self) -> Iterator[Defect]:
        """Masks that were not turned, judging by the sizes of the other pairs."""
        for record in self._image_turned if self._masks_are_unturned else ():
            detail = (
                f"its image {record.image} is turned by its EXIF orientation ({exif_orientation(record.image)}), and "
                f"the sizes of {self._mask_unturned} other pairs show that the masks of this dataset were not; turn "
                "the mask too, or remove the tag"
            )
            yield Defect(DefectKind.EXIF_TURNED, record.mask or record.image, detail)

    def doubtful(self) -> tuple[Path, ...]:
        """Files that their EXIF orientation turns, but neither size nor other pairs show whether it should."""
        images = () if self._masks_are_unturned else (record.image for record in self._image_turned)
        return *images, *(record.mask or record.image for record in self._mask_turned)

    def remarks(self) -> Iterator[str]:
        """Remarks on the doubtful files."""
        if self._image_turned and not self._masks_are_unturned:
            files = [record.image for record in self._image_turned]
            yield (
                f"{len(files)} images are turned by their EXIF orientation, and sizes do not show whether their masks "
                f"were turned too; check them: {first_few(files, limit=FILES_SHOWN)}"
            )
        if self._mask_turned:
            files = [record.mask or record.image for record in self._mask_turned]
            yield (
                f"{len(files)} masks are turned by an EXIF orientation that their images do not have, and sizes do not "
                f"show whether they should be; check them: {first_few(files, limit=FILES_SHOWN)}"
            )

    @property
    def _masks_are_unturned(self) -> bool:
        return self._mask_unturned > 0 and self._mask_fits == 0


class PaletteColors:
    """Collects the palette colours of index masks: an index with two colours is not one class."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[Color, Path]] = {}
        self._other: dict[int, tuple[Color, Path]] = {}

    def add(self, record: Record, colors: Mapping[int, Color]) -> None:
        """Add the colours of one mask by index."""
        file = record.mask or record.image
        for value, color in colors.items():
            if self._first.setdefault(value, (color, file))[0] != color:
                self._other.setdefault(value, (color, file))

    def contradiction(self) -> str | None:
        """The first index with two colours, with the settings that resolve it; None if there is none."""
        if not self._other:
            return None
        value = min(self._other)
        (color, file), (other_color, other_file) = self._first[value], self._other[value]
        more = f", and {len(self._other) - 1} more indices differ" if len(self._other) > 1 else ""
        return (
            f"palettes contradict each other: index {value} is {list(color)} in {file} and {list(other_color)} in "
            f"{other_file}{more}; if colours define the classes, list them in a YAML file (classes: [{{name: "
            f"class {value}, color: {list(color)}}}, ...]), and if indices do, list these (classes: {{class "
            f"{value}: {value}, ...}})"
        )
