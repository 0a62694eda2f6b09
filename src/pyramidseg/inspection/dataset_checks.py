"""Checks across image-mask pairs: outliers, conflicting ids, EXIF orientations, palettes, GeoJSON files."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

from pyramidseg.base.classes import Color
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.setting_types import Channels
from pyramidseg.base.text import first_few
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.image_mask_checks import ExifStatus, exif_orientation
from pyramidseg.data.pairs import set_name
from pyramidseg.data.records import Dataset, DrawnSource, Record
from pyramidseg.inspection.class_statistics import no_images
from pyramidseg.inspection.defect_summary import UnknownValues
from pyramidseg.inspection.image_table import ImageTable
from pyramidseg.inspection.inspect_pair import PairInspection, inspect_pair

T = TypeVar("T", int, str)

MAX_FACTOR = 4.0
"""An image is an outlier if its size or aspect ratio differs from the median by more than this factor."""

FILES_SHOWN, NAMES_SHOWN = 10, 16
"""Files that a remark names, and classes that a finding names."""

ADD_IMAGES = "add images that show them, split the data differently, or remove them from the classes"


class PairCollector:
    """Collects what the checks across pairs need, in ascending order of the records' numbers.

    Attributes:
        defects: of the pairs by themselves.
        by_exif: the pairs of each status.
        statistics: by split, of the pairs without a defect of their own.
    """

    def __init__(self, splits: Mapping[str, tuple[Record, ...]], num_classes: int) -> None:
        self.table = ImageTable(splits)
        self.statistics = {split: no_images(num_classes) for split in splits}
        self.defects: list[Defect] = []
        self.unknown = UnknownValues()
        self.by_exif: dict[ExifStatus, list[Record]] = {status: [] for status in ExifStatus}
        self.palettes = PaletteColors()
        self.contested: list[tuple[int, Record]] = []

    def add(self, index: int, pair: PairInspection) -> None:
        """Add one pair."""
        self.defects += pair.defects
        if pair.unknown_values is not None:
            self.unknown.add(pair.unknown_values)
        self.by_exif[pair.exif].append(pair.record)
        self.palettes.add(pair.record, pair.palette)
        if pair.contested:
            self.contested.append((pair.contested, pair.record))
        if pair.image is not None:
            self.table.add(index, pair.image)
            if pair.label_counts is not None:
                split = self.table.split_of[index]
                self.statistics[split] = self.statistics[split].plus(pair.image.dtype, pair.label_counts)

    def inspect(self, dataset: Dataset, *, channels: Channels | None, decode_images: bool, task: str) -> None:
        """Inspect all pairs and add them."""

        def inspect(record: Record) -> PairInspection:
            return inspect_pair(
                record, dataset.masks, num_classes=len(dataset.classes), channels=channels, decode_image=decode_images
            )

        records, self.palettes.sets = self.table.records, dataset.sets
        for index, pair in enumerate(track(map_in_threads(inspect, records), total=len(records), task=task)):
            self.add(index, pair)

    def defects_across_pairs(self, source: str) -> Iterator[Defect]:
        """Defects that only the comparison of all pairs shows, and that prevent training."""
        turned = self.by_exif[ExifStatus.NOT_APPLIED]
        for record in self.by_exif[ExifStatus.UNVERIFIED] if self._masks_are_never_turned else ():
            detail = (
                f"its image {record.image} is turned by its EXIF orientation ({exif_orientation(record.image)}), and "
                f"the sizes of {len(turned)} other pairs show that the masks of this dataset were not; turn the mask "
                "too, or remove the tag"
            )
            yield Defect(DefectKind.EXIF_TURNED, record.mask or record.image, detail)
        yield from find_mixed_dtypes(self.table)
        if contradiction := self.palettes.contradiction():
            yield Defect(DefectKind.UNCLEAR_CLASSES, Path(source), contradiction)

    @property
    def _masks_are_never_turned(self) -> bool:
        return bool(self.by_exif[ExifStatus.NOT_APPLIED]) and not self.by_exif[ExifStatus.CONFIRMED]

    def doubtful_turns(self) -> list[Path]:
        """Files that their EXIF orientation turns, although neither sizes nor other pairs show whether it should."""
        images = [] if self._masks_are_never_turned else self.by_exif[ExifStatus.UNVERIFIED]
        masks = self.by_exif[ExifStatus.MASK_ONLY]
        return [*(record.image for record in images), *(record.mask or record.image for record in masks)]

    def remarks(self) -> Iterator[str]:
        """Files that users should look at, because they may be right."""
        if files := self.doubtful_turns():
            yield (
                f"{len(files)} files are turned by their EXIF orientation, and sizes do not show whether the other "
                f"file of the pair was turned too; check them: {first_few(files, limit=FILES_SHOWN)}"
            )
        if self.contested:
            most, record = max(self.contested, key=lambda one: one[0])
            total = sum(pixels for pixels, _ in self.contested)
            yield (
                f"regions with different labels overlap in {len(self.contested)} images, in {total} pixels, of which "
                f"{most} are in {record.image}; the notes say which region is on top"
            )


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


def find_mixed_dtypes(table: ImageTable) -> Iterator[Defect]:
    """Images with another dtype than most; if two are equally frequent, than the one that occurred first."""
    for index, mine, most in _minority({index: facts.dtype for index, facts in table.facts.items()}):
        detail = f"has {mine} values, but most images have {most}; they cannot be mixed: convert one kind"
        yield Defect(DefectKind.MIXED_DEPTHS, table.records[index].image, detail)


def find_outliers(table: ImageTable) -> Iterator[Defect]:
    """Images with another number of channels than most, or of an unusual size or aspect ratio."""
    for index, mine, most in _minority({index: facts.channels for index, facts in table.facts.items()}):
        detail = (
            f"has {mine} channel{'s' if mine > 1 else ''} (alpha not counted), but most images have {most}; convert "
            "one kind"
        )
        yield Defect(DefectKind.MIXED_CHANNELS, table.records[index].image, detail)
    sides = {index: (facts.height * facts.width) ** 0.5 for index, facts in table.facts.items()}
    aspects = {
        index: max(facts.height, facts.width) / min(facts.height, facts.width) for index, facts in table.facts.items()
    }
    side, aspect = (median(values.values()) if values else 0.0 for values in (sides, aspects))
    for index, facts in table.facts.items():
        size = f"is {facts.height} x {facts.width} pixels"
        factor = max(sides[index] / side, side / sides[index])
        if factor > MAX_FACTOR:
            detail = (
                f"{size}, {factor:.1f} times {'larger' if sides[index] > side else 'smaller'} in each direction than "
                f"the median image (limit: {MAX_FACTOR:g} times); resize it, cut it into tiles, or remove it"
            )
            yield Defect(DefectKind.EXTREME_SIZE, table.records[index].image, detail)
        if aspects[index] > MAX_FACTOR * aspect:
            detail = (
                f"{size}: its long side is {aspects[index]:.1f} times the short one, but {aspect:.1f} times in the "
                "median image; cut it into tiles, or remove it"
            )
            yield Defect(DefectKind.EXTREME_ASPECT, table.records[index].image, detail)


def _minority(values: Mapping[int, T]) -> Iterator[tuple[int, T, T]]:
    """Images whose value is not the most frequent one (of equally frequent ones the first), each with both values."""
    for usual, _ in Counter(values.values()).most_common(1):
        yield from ((index, value, usual) for index, value in values.items() if value != usual)


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
    """Collects the palette colours of index masks: an index with two colours in one set is not one class."""

    def __init__(self) -> None:
        self.sets: Collection[str] = ()
        self._first: dict[tuple[str, int], tuple[Color, Path]] = {}
        self._other: dict[tuple[str, int], tuple[Color, Path]] = {}

    def add(self, record: Record, colors: Mapping[int, Color]) -> None:
        """Add the colours of one mask by index."""
        file = record.mask or record.image
        of_set = name if (name := set_name(record)) in self.sets else ""
        for value, color in colors.items():
            if self._first.setdefault((of_set, value), (color, file))[0] != color:
                self._other.setdefault((of_set, value), (color, file))

    def contradiction(self) -> str | None:
        """The first index with two colours, with the settings that resolve it; None if there is none."""
        if not self._other:
            return None
        key = _, value = min(self._other)
        (color, file), (other_color, other_file) = self._first[key], self._other[key]
        more = f", and {len(self._other) - 1} more indices differ" if len(self._other) > 1 else ""
        return (
            f"palettes contradict each other: index {value} is {list(color)} in {file} and {list(other_color)} in "
            f"{other_file}{more}; if colours define the classes, list them in a YAML file (classes: [{{name: "
            f"class {value}, color: {list(color)}}}, ...]), and if indices do, list these (classes: {{class "
            f"{value}: {value}, ...}})"
        )
