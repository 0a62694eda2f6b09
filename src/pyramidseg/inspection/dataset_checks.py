"""Checks across image-mask pairs: absent classes, outliers, conflicting ids, contradicting palettes."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from pyramidseg.base.classes import Color
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.text import first_few
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.pairs import set_name
from pyramidseg.data.records import Dataset, DrawnSource, Record
from pyramidseg.inspection.inspect_pair import ImageFacts

T = TypeVar("T", int, str)

MAX_FACTOR = 4.0
"""An image is an outlier if its size or aspect ratio differs from the median by more than this factor."""

NAMES_SHOWN = 16
"""Classes that a finding names."""

ADD_IMAGES = "add images that show them, split the data differently, or remove them from the classes"


class ListedImage(NamedTuple):
    """An image that could be read, with what is kept of it: some 300 bytes, without the sums of its channels."""

    split: str
    record: Record
    facts: ImageFacts


def missing_classes(dataset: Dataset, split: str, pixels: Sequence[int]) -> str:
    """The classes without a pixel in a split, as a sentence; empty if there are none and there are several classes.

    A class of what no region covers may have none.
    """
    absent = [name for name, count in zip(dataset.classes.names, pixels, strict=True) if not count]
    present = [name for name, count in zip(dataset.classes.names, pixels, strict=True) if count]
    if split == "train" and len(present) == 1:
        others = f", none is of {first_few(map(repr, absent), limit=NAMES_SHOWN)}" if absent else ""
        return (
            f"every labelled pixel of split 'train' is of class {present[0]!r}{others}, so there is nothing to "
            "learn with fewer than two classes; the masks' values may mean something else, or polygons be elsewhere on "
            "the map than the images (data.vector_crs)"
        )
    absent = [name for name in absent if name not in _uncovered(dataset)]
    if not absent:
        return ""
    return (
        f"{'class' if len(absent) == 1 else 'classes'} without a pixel in split {split}: "
        f"{first_few(map(repr, absent), limit=NAMES_SHOWN)}"
    )


def _uncovered(dataset: Dataset) -> set[str]:
    """Names of the classes that are only what no region covers: regions may cover everything."""
    masks = dataset.masks
    if not isinstance(masks, ClassMasks) or not isinstance(masks.values, DrawnSource):
        return set()
    drawn = {index for value, index in masks.ids if value}
    return {dataset.classes.names[index] for _, index in masks.ids if index not in drawn}


def find_mixed_dtypes(images: Sequence[ListedImage]) -> Iterator[Defect]:
    """Images with another dtype than most; if two are equally frequent, than the one that occurred first."""
    for file, mine, most in _minority(images, lambda facts: facts.dtype):
        detail = f"has {mine} values, but most images have {most}; they cannot be mixed: convert one kind"
        yield Defect(DefectKind.MIXED_DEPTHS, file, detail)


def find_outliers(images: Sequence[ListedImage]) -> Iterator[Defect]:
    """Images with another number of channels than most, or of an unusual size or aspect ratio."""
    for file, mine, most in _minority(images, lambda facts: facts.channels):
        detail = f"has {mine} channel{'s' if mine > 1 else ''} (alpha not counted), but most images have {most}"
        yield Defect(DefectKind.MIXED_CHANNELS, file, f"{detail}; convert one kind")
    sides = [(image.facts.height * image.facts.width) ** 0.5 for image in images]
    aspects = [max(image.facts[:2]) / min(image.facts[:2]) for image in images]
    usual, usual_aspect = (median(values or [0.0]) for values in (sides, aspects))
    for image, side, aspect in zip(images, sides, aspects, strict=True):
        size = f"is {image.facts.height} x {image.facts.width} pixels"
        factor = max(side / usual, usual / side)
        if factor > MAX_FACTOR:
            detail = (
                f"{size}, {factor:.1f} times {'larger' if side > usual else 'smaller'} in each direction than "
                f"the median image (limit: {MAX_FACTOR:g} times); resize it, cut it into tiles, or remove it"
            )
            yield Defect(DefectKind.EXTREME_SIZE, image.record.image, detail)
        if aspect > MAX_FACTOR * usual_aspect:
            detail = (
                f"{size}: its long side is {aspect:.1f} times the short one, but {usual_aspect:.1f} times in the "
                "median image; cut it into tiles, or remove it"
            )
            yield Defect(DefectKind.EXTREME_ASPECT, image.record.image, detail)


def _minority(images: Sequence[ListedImage], value_of: Callable[[ImageFacts], T]) -> Iterator[tuple[Path, T, T]]:
    """Images whose value is not the most frequent one (of equally frequent ones the first), each with both values."""
    values = [value_of(image.facts) for image in images]
    for usual, _ in Counter(values).most_common(1):
        pairs = zip(images, values, strict=True)
        yield from ((image.record.image, value, usual) for image, value in pairs if value != usual)


def find_id_conflicts(splits: Mapping[str, tuple[Record, ...]]) -> Iterator[Defect]:
    """Ids that occur twice in a split, and ids that a case-insensitive file system would not tell apart."""
    for split, records in splits.items():
        first: dict[str, Record] = {}
        exact: set[str] = set()
        # Sorted, so that the defects do not depend on the order of the records.
        for record in sorted(records, key=lambda record: record.id):
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


class PaletteColors:
    """Collects the palette colours of index masks: an index with two colours in one of `sets` is not one class."""

    def __init__(self, sets: Collection[str]) -> None:
        self._sets = sets
        self._found: dict[tuple[str, int], dict[Color, Path]] = {}  # by set and index, the first file of two colours

    def add(self, record: Record, colors: Mapping[int, Color]) -> None:
        """Add the colours of one mask by index."""
        of_set = name if (name := set_name(record)) in self._sets else ""
        for value, color in colors.items():
            found = self._found.setdefault((of_set, value), {})
            if len(found) < 2:
                found.setdefault(color, record.mask or record.image)

    def contradiction(self) -> str | None:
        """The first index with two colours, with the settings that resolve it; None if there is none."""
        different = {key: found for key, found in self._found.items() if len(found) > 1}
        if not different:
            return None
        key = _, value = min(different)
        (color, file), (other_color, other_file) = different[key].items()
        more = f", and {len(different) - 1} more indices differ" if len(different) > 1 else ""
        return (
            f"palettes contradict each other: index {value} is {list(color)} in {file} and {list(other_color)} in "
            f"{other_file}{more}; if colours define the classes, list them in a YAML file (classes: [{{name: "
            f"class {value}, color: {list(color)}}}, ...]), and if indices do, list these (classes: {{class "
            f"{value}: {value}, ...}})"
        )
