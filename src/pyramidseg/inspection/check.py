"""The check before the first epoch: all images and masks, all defects in one message, and the counts training needs."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Color
from pyramidseg.base.config import Channels
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import in_threads
from pyramidseg.base.result_cache import ResultCache, digest, file_state, user_cache
from pyramidseg.base.text import first_few
from pyramidseg.data.channel_statistics import byte_counts
from pyramidseg.data.class_masks import NEXT_STEP, ClassMasks, UnknownValuesError, value_source
from pyramidseg.data.image_mask_checks import ExifStatus, check_georeference, check_same_size, exif_status
from pyramidseg.data.pairs import check_labels, ignore_nodata, read_labels
from pyramidseg.data.records import Dataset, MaskSource, Record
from pyramidseg.formats.coco.categories import crowd_of, with_crowds
from pyramidseg.images.decode import check_channels, read_header, read_masked_image
from pyramidseg.inspection.class_statistics import SplitSummary, Tally
from pyramidseg.inspection.image_table import ImageTable
from pyramidseg.inspection.pair_inspection import Palettes, Turns, areas_elsewhere, colors_shown

# DefectSummary of many files, told in one message.

_FILES_SHOWN, _VALUES_SHOWN = 3, 8


class DefectSummary:
    """Collects defects as they come, in constant memory: all are counted and the first few kept.

    Values that are no class are added up over all masks, as the user will want to name or ignore all of them at once.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.strays = 0
        self.first_strays: list[UnknownValuesError] = []
        self.pixels: Counter[int] = Counter()
        self.masks: Counter[int] = Counter()
        self.others = 0
        self.first_others: list[DataError] = []

    def add(self, error: DataError) -> None:
        """Take in one defect."""
        if isinstance(error, UnknownValuesError):
            self.strays += 1
            self.pixels.update(error.pixels)
            self.masks.update(error.pixels.keys())
            if len(self.first_strays) < _FILES_SHOWN:
                self.first_strays.append(error)
        else:
            self.others += 1
            if len(self.first_others) < _FILES_SHOWN:
                self.first_others.append(error)

    def refuse(self, total: int) -> None:
        """Raise what was found among `total` records, if anything was.

        Raises:
            DataError: a single defect as it is, or the number of all and the first few of each kind.
        """
        if self.strays + self.others == 0:
            return
        if self.strays + self.others == 1:
            raise [*self.first_strays, *self.first_others][0]
        parts = [self._stray_values()] if self.strays else []
        parts += [str(error) for error in self.first_others]
        if self.others > len(self.first_others):
            parts.append(f"... and {self.others - len(self.first_others)} more")
        raise DataError(f"{self.source}: {self.strays + self.others} of {total} pairs have defects: {'; '.join(parts)}")

    def _stray_values(self) -> str:
        describe = self.first_strays[0].source.describe
        values = [
            f"{describe([value])} ({self.pixels[value]} pixels in {self.masks[value]} masks)"
            for value in sorted(self.masks)[:_VALUES_SHOWN]
        ]
        shown = first_few(values, limit=_VALUES_SHOWN, total=len(self.masks))
        files = first_few([error.path for error in self.first_strays], total=self.strays)
        return f"mask values that are no class: {shown}, in {files} ({self.first_strays[0].known}); {NEXT_STEP}"


# Images that are unlike the rest: in channels, bit depth, size or proportions.

FAR = 4.0
"""How many times larger or smaller a side, or how many times more elongated an image, has to be to be told."""


def find_outliers(table: ImageTable) -> Iterator[Defect]:
    """Images that differ from most in kind, and from the median one in size or proportions."""
    known = np.flatnonzero(table.known)
    if not len(known):
        return
    yield from _mixed(table, known)
    height, width = table.height[known].astype(np.float64), table.width[known].astype(np.float64)
    sides, aspects = np.sqrt(height * width), np.maximum(height, width) / np.minimum(height, width)
    side, aspect = float(np.median(sides)), float(np.median(aspects))
    for index in np.flatnonzero((sides > FAR * side) | (sides < side / FAR)).tolist():
        how = "larger" if sides[index] > side else "smaller"
        factor = max(sides[index] / side, side / sides[index])
        detail = (
            f"is {_pixels(table, known[index])} pixels, {factor:.1f} times {how} in each direction than the median "
            f"image ({FAR:g} is far); resize it or cut it into pieces, or take it out"
        )
        yield Defect(DefectKind.EXTREME_SIZE, table.places.record(int(known[index])).image, detail)
    for index in np.flatnonzero(aspects > FAR * aspect).tolist():
        detail = (
            f"is {_pixels(table, known[index])} pixels: its long side is {aspects[index]:.1f} times the short one, and "
            f"{aspect:.1f} times in the median image; cut it into pieces, or take it out"
        )
        yield Defect(DefectKind.EXTREME_ASPECT, table.places.record(int(known[index])).image, detail)


def _mixed(table: ImageTable, known: NDArray[np.int64]) -> Iterator[Defect]:
    """Images whose channels or bit depth the majority does not share; of equally frequent ones, the larger number."""
    usual = _most_frequent(table.channels[known])
    for place in known[table.channels[known] != usual].tolist():
        mine = table.channels[place]
        detail = (
            f"has {mine} channel{'s' if mine > 1 else ''} beside alpha, and most images have {usual}; convert one kind"
        )
        yield Defect(DefectKind.MIXED_CHANNELS, table.places.record(place).image, detail)
    kind = _most_frequent(table.dtype[known])
    for place in known[table.dtype[known] != kind].tolist():
        mine, most = table.dtypes[table.dtype[place]], table.dtypes[kind]
        detail = f"holds {mine} values, and most images hold {most}; they cannot be mixed: convert one kind"
        yield Defect(DefectKind.MIXED_DEPTHS, table.places.record(place).image, detail)


def _most_frequent(numbers: NDArray[np.signedinteger]) -> int:
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[len(counts) - 1 - np.argmax(counts[::-1])])


def _pixels(table: ImageTable, place: int) -> str:
    return f"{table.height[place]} x {table.width[place]}"


# Names that are in each other's way.


def find_clashes(splits: Mapping[str, tuple[Record, ...]]) -> Iterator[Defect]:
    """Ids that a split has twice, and such as a file system that knows no upper and lower case would hold for one."""
    for split, records in splits.items():
        first: dict[str, Record] = {}
        exact: set[str] = set()
        for record in sorted(records, key=lambda record: record.id):  # whatever order they are listed in
            other = first.setdefault(record.id.casefold(), record)
            if record.id in exact:
                detail = f"the id {record.id!r} is given to another image of split {split} too; ids must differ"
                yield Defect(DefectKind.REPEATED_ID, record.image, detail)
            elif other is not record:
                detail = (
                    f"differs from {other.image.name} in upper and lower case only, and so do their masks: Windows and "
                    "macOS hold them for one file; rename one"
                )
                yield Defect(DefectKind.CASE_COLLISION, record.image, detail)
            exact.add(record.id)


@dataclass(frozen=True)
class DatasetSummary:
    """What was checked, and found fit to train on.

    Attributes:
        fingerprint: of the ids and sizes of the files.
        notes: what is no defect, and has to be known before training.
    """

    splits: dict[str, SplitSummary]
    fingerprint: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "DatasetSummary":
        """The inverse of `to_json`, from what JSON has made of it."""
        splits = {name: SplitSummary.from_json(split) for name, split in content["splits"].items()}
        return cls(splits, str(content["fingerprint"]), tuple(content["notes"]))


class Finding(NamedTuple):
    """What the check of one record gives: the facts, or the error that stands in their way."""

    record: Record
    size: tuple[int, int] = (0, 0)
    dtype: str = ""
    counts: NDArray[np.int64] | None = None
    turn: ExifStatus = ExifStatus.CONSISTENT
    palette: Mapping[int, Color] = MappingProxyType({})
    error: DataError | None = None


def check_dataset(
    dataset: Dataset,
    *,
    splits: Iterable[str] = ("train", "val"),
    channels: Channels | None = None,
    workers: int | None = None,
) -> DatasetSummary:
    """Decode every mask and read every image's header; never stop at the first defect.

    A dataset without defects is remembered by its files' sizes and times, and by how its masks are decoded; not where a
    source of one's own decodes them, as what its code does may change and leave no trace.

    Args:
        splits: the splits to check; each must hold something.
        channels: the image channels that the model takes, if they are known.
        workers: threads; default: one for each processor, up to 8.

    Raises:
        DataError: there are defects. The first few are named, and how many there are in all.
    """
    listed = {split: dataset.split(split) for split in splits}
    _refuse_repeated_ids(dataset, listed)
    cache = user_cache() if _is_known(dataset.masks) else ResultCache()
    return cache.get_or_compute(
        f"check of {Path(dataset.source).resolve()}: {sorted(listed)}, {channels} channels",
        content=lambda: _content(dataset, listed, channels),
        compute=lambda: _check(dataset, listed, channels=channels, workers=workers),
        to_json=DatasetSummary.to_json,
        from_json=DatasetSummary.from_json,
    )


def _check(
    dataset: Dataset, listed: dict[str, tuple[Record, ...]], *, channels: Channels | None, workers: int | None
) -> DatasetSummary:
    total = sum(len(records) for records in listed.values())

    def check(record: Record) -> Finding:
        return check_record(record, dataset.masks, num_classes=len(dataset.classes), channels=channels)

    everything = ((split, record) for split, records in listed.items() for record in records)
    findings = in_threads(lambda item: (item[0], check(item[1])), everything, workers=workers)
    tallies = {split: Tally(len(dataset.classes)) for split in listed}
    defects, turns, palettes = DefectSummary(dataset.source), Turns(), Palettes()
    for split, finding in track(findings, total=total, task="checking images and masks"):
        if finding.error is not None:
            defects.add(finding.error)
        elif finding.counts is not None:
            tallies[split].add(finding.size, finding.dtype, finding.counts)
            turns.add(finding.record, finding.turn)
            palettes.add(finding.record, finding.palette)
    defects.refuse(total)
    if contradiction := palettes.contradiction():
        raise DataError(f"{dataset.source}: {contradiction}")
    summaries = {split: tally.summary() for split, tally in tallies.items()}
    for split, summary in summaries.items():
        if not any(summary.pixels):
            raise DataError(
                f"{dataset.source}: no pixel of split {split!r} has a class: all {summary.ignored} pixels of its "
                f"{summary.images} masks are ignored; label some, or take a class out of `ignore`"
            )
    dtypes = {dtype for summary in summaries.values() for dtype in summary.dtypes}
    if len(dtypes) > 1:
        raise DataError(f"{dataset.source}: images of {' and '.join(sorted(dtypes))} cannot be mixed; convert one kind")
    absent = _absent_classes(dataset, summaries["train"]) if "train" in summaries else ()
    elsewhere = areas_elsewhere([record for records in listed.values() for record in records], dataset.masks)
    return DatasetSummary(summaries, fingerprint(listed), (*absent, *turns.remarks(), *elsewhere))


def _absent_classes(dataset: Dataset, train: SplitSummary) -> Iterator[str]:
    """A note on classes that cannot be learned.

    Raises:
        DataError: there are several classes, and training images show one of them.
    """
    names = dataset.classes.names
    absent = [name for name, pixels in zip(names, train.pixels, strict=True) if not pixels]
    shown = first_few(map(repr, absent), limit=8)
    if len(absent) == len(names) - 1 > 0:
        (only,) = set(names) - set(absent)
        raise DataError(
            f"{dataset.source}: every labelled pixel of split 'train' is of class {only!r}, and none of "
            f"{shown}, so there is nothing to learn; the masks' values may mean something else (ignored: "
            f"{train.ignored} pixels{_crowds_ignored(dataset, absent)}): see what pyramidseg inspect shows"
        )
    if absent:
        yield (
            f"no pixel of split 'train' is of class {shown}: what is not shown cannot be learned; see "
            "that the masks' values mean what they should, or leave such classes out"
        )


def _crowds_ignored(dataset: Dataset, absent: Iterable[str]) -> str:
    """How an absent class takes the crowds of its category, where they are ignored."""
    masks = dataset.masks
    ignored = {masks.values.describe([value]) for value in masks.ignored} if isinstance(masks, ClassMasks) else set()
    crowded = next((name for name in absent if crowd_of(name) in ignored), None)
    return f", crowds (iscrowd) unless a class takes them, as in {with_crowds(crowded)}" if crowded else ""


def check_record(record: Record, masks: MaskSource, *, num_classes: int, channels: Channels | None = None) -> Finding:
    """Check one image and its mask; the image is decoded only where it may have holes, as labels there do not count."""
    try:
        header = read_header(record.image)
        if channels is not None:
            check_channels(record.image, header, channels)
        labels = read_labels(record, masks)
        check_same_size(record, (header.height, header.width), labels.shape)
        check_georeference(record)
        if header.holes:
            labels = ignore_nodata(labels, read_masked_image(record.image, channels=channels))
        counts = byte_counts(labels[..., None])[0]
        check_labels(record, masks, counts, num_classes=num_classes)
        palette = colors_shown(record, masks, counts)
    except DataError as error:
        return Finding(record, error=error)
    size = header.height, header.width
    return Finding(record, size, header.dtype, counts, exif_status(record, size, value_source(masks)), palette)


def fingerprint(splits: dict[str, tuple[Record, ...]]) -> str:
    """sha256 (hexadecimal) over split names, ids and file sizes: cheap, and independent of where the files lie."""
    digest = hashlib.sha256()
    for split, records in sorted(splits.items()):
        for record in records:
            sizes = [_size(record.image), _size(record.mask) if record.mask else -1]
            digest.update(repr((split, record.id, *sizes)).encode())
    return digest.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _refuse_repeated_ids(dataset: Dataset, listed: dict[str, tuple[Record, ...]]) -> None:
    for split, records in listed.items():
        ids = Counter(record.id for record in records)
        name, count = ids.most_common(1)[0]
        if count > 1:
            raise DataError(
                f"{dataset.source}: {count} records of split {split!r} have the id {name!r}; ids must differ"
            )


def _content(dataset: Dataset, listed: dict[str, tuple[Record, ...]], channels: Channels | None) -> str:
    """A digest that changes when an image, a mask, or anything that decides on a mask's labels does."""
    files = (
        (split, record.id, file_state(record.image), record.mask and file_state(record.mask))
        for split, records in listed.items()
        for record in records
    )
    sources = {file_state(part) for part in _parts(dataset.masks) if isinstance(part, Path)}
    return digest([channels, dataset.classes.names, dataset.masks, sorted(sources), *files])


def _is_known(masks: MaskSource) -> bool:
    """Whether a version of this package says all of how masks are decoded."""
    decoders = (type(part) for part in _parts(masks) if hasattr(part, "read"))
    return all(decoder.__module__.partition(".")[0] == "pyramidseg" for decoder in decoders)


def _parts(value: object) -> Iterator[object]:
    """The decoder of masks and everything inside it, such as the path of an annotation file."""
    yield value
    inside: Iterable[object] = ()
    if is_dataclass(value) and not isinstance(value, type):
        inside = (getattr(value, member.name) for member in fields(value))
    elif isinstance(value, Mapping):
        inside = (*value.keys(), *value.values())
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside = value
    for part in inside:
        yield from _parts(part)
