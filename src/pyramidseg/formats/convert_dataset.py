"""Write a dataset in another format: streaming, and continued where a killed conversion stopped.

A ledger in the output folder holds the part of each finished image (`label_writer`). It is deleted at the end.
"""

import json
import logging
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from operator import methodcaller
from pathlib import Path
from typing import IO, Any, Literal, get_args
from zipfile import ZipFile, ZipInfo

from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, OutputError, nearest
from pyramidseg.base.files import (
    digest,
    explained_writes,
    file_state,
    make_folder,
    remove_leftovers,
    write_atomically,
    write_bytes,
    write_json,
)
from pyramidseg.base.ledger import SUFFIX, Ledger
from pyramidseg.base.log import track
from pyramidseg.base.output_lock import LOCK, locks_out
from pyramidseg.base.parallel import map_in_processes
from pyramidseg.base.sequences import Mapped
from pyramidseg.base.text import first_few
from pyramidseg.base.text_files import read_text
from pyramidseg.data.pairs import read_labels
from pyramidseg.data.records import Dataset, DatasetSource, Record
from pyramidseg.formats.conversion_items import Item, conversion_items
from pyramidseg.formats.label_writer import ARCHIVE, LabelledImage, LabelWriter
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.writers import LABEL_WRITERS, label_writer
from pyramidseg.images.decode import read_image
from pyramidseg.images.scene_windows import scene_of, window_at

logger = logging.getLogger(__name__)

LEDGER = ".conversion"
"""Folder of the ledger in the output folder; of a complete conversion it has only `COMPLETE`."""

SETTINGS = "settings.json"
"""What an unfinished conversion is made with: the same settings continue it."""

COMPLETE = "complete.json"

PARTS_VERSION = 2
"""Changed with what writers keep in the ledger, so that images of an earlier version are converted again."""

ImagePlacement = Literal["copy", "link", "none"]


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        images: number of images by split.
        lost: number of pixels that the format cannot hold, by the reason.
        before: number of images that an earlier call had finished; all of them if the conversion was complete.
    """

    out: Path
    images: Mapping[str, int]
    lost: Mapping[str, int]
    before: int


@locks_out
def convert_dataset(
    dataset: DatasetSource,
    *,
    to: str,
    out: str | Path,
    images: ImagePlacement = "copy",
    data: DataConfig | None = None,
    model: str = "",
    confidence: Callable[[Record], Path] | None = None,
    simplify_px: float = 0.0,
    label_config: str | Path | None = None,
) -> Conversion:
    """Write a dataset in another format, as `pyramidseg convert` does; splits and classes are kept.

    A dataset without a val split gets one only where `open_dataset` makes it with `divide=False`.

    Args:
        to: a name in `LABEL_WRITERS`.
        out: a new folder, or that of a conversion that was killed, which is continued, or was complete already.
        images: copy the image files, link them (a hard link, or a symbolic one to another file system), or leave them.
        data: how the dataset is read, as in training.
        model: version of the model that predicted the labels, for formats that tell predictions from annotations. The
            ledger is then kept, so that a later call with more images continues.
        confidence: of a record, the file with the probability of each label times 255, which becomes scores.
        simplify_px: how far outlines may be moved to save corners; neighbours keep their common border. The number of
            pixels that change is in `lost`.
        label_config: the labelling configuration of a Label Studio project, which gives regions the names of its tags
            and labels.

    Raises:
        DataError: the dataset or one of its masks cannot be read.
        ConfigError: an unknown format, `simplify_px` for one without outlines, or a `label_config` without a label for
            a class.
        OutputError: `out` holds something else, or cannot be written.
    """
    _check_options(to, images, simplify_px)
    folder = Path(out)
    _refuse_other_content(folder)
    for parent, _, _ in os.walk(folder):
        remove_leftovers(Path(parent))
    opened = dataset if isinstance(dataset, Dataset) else open_dataset(dataset, data or DataConfig(), divide=False)
    for note in opened.notes:
        logger.info(note)
    config = None if label_config is None else read_text(Path(label_config))
    writer = label_writer(to, opened.classes, label_config=config)
    if writer.lacks:
        logger.info(f"{to} has no place for {writer.lacks}")
    job = _ConversionTask(folder, to, writer, opened, images, model, confidence, float(simplify_px), config)
    items = conversion_items(opened, writer)
    conversion = Conversion(folder, {split: len(some) for split, some in opened.splits.items() if some}, {}, 0)
    if (stored := _lost_when_complete(job, items)) is not None:
        logger.info(f"{folder}: already complete")
        return replace(conversion, lost=stored, before=len(items))
    _begin_or_continue(job)
    with Ledger.open(folder / LEDGER, repair=True) as ledger:
        pending, lost = _pending(job, items, ledger)
        before = len(items) - len(pending)
        if before:
            logger.info(f"{folder}: {before} of {len(items)} images are finished; the others follow")
        for entry in track(map_in_processes(job.convert, pending), total=len(pending), task="converting"):
            ledger.append(entry)
            lost.update(entry["lost"])
        _assemble(job, ledger, items)
        if not model:
            entries = (ledger.find(item.key) or {} for item in items)
            content = job.content(items, (entry["fingerprint"] for entry in entries))
            write_json(folder / LEDGER / COMPLETE, {"content": content, "lost": dict(lost)})
    if not model:
        for path in (folder / LEDGER / SETTINGS, *(folder / LEDGER).glob(f"*{SUFFIX}")):
            path.unlink()
    return replace(conversion, lost=dict(lost), before=before)


@dataclass(frozen=True)
class _ConversionTask:
    """What is the same for all images of a conversion; see `convert_dataset`."""

    folder: Path
    to: str
    writer: LabelWriter
    dataset: Dataset
    images: ImagePlacement
    model: str
    confidence: Callable[[Record], Path] | None
    simplify_px: float
    label_config: str | None

    @cached_property
    def settings(self) -> str:
        """A digest of everything but the images' files."""
        given = [self.to, self.dataset.classes.to_dict(), self.images, self.model, self.simplify_px]
        return digest(given if self.label_config is None else [*given, self.label_config])

    def fingerprint(self, item: Item) -> str:
        """A digest of the settings and the states of an image's files, without ctime, which a hard link changes."""
        record = item.record
        files = (record.image, record.mask, self.confidence and self.confidence(record))
        states = (file_state(scene_of(path))[:3] for path in files if path is not None)
        return digest([PARTS_VERSION, self.settings, *states])

    def content(self, items: Iterable[Item], fingerprints: Iterable[str]) -> str:
        """A digest of the settings and of all images."""
        keys = (item.key for item in items)
        return digest(chain([self.settings], zip(keys, fingerprints, strict=True)))

    def convert(self, item: Item) -> dict[str, Any]:
        """Write the files of an image; returns its ledger entry."""
        record = item.record
        fingerprint = self.fingerprint(item)  # first: a file that changes from now on is converted again
        labels = read_labels(record, self.dataset.masks)
        certainty = read_image(self.confidence(record), channels=1)[..., 0] if self.confidence else None
        image = LabelledImage(item.name, item.split, record.image, labels, self.model, certainty, self.simplify_px)
        written = self.writer.encode(image, self.dataset.classes)
        for path, content in written.files.items():
            write_bytes(self.folder / path, content)
        _place_image(record.image, self.folder / self.writer.path_of_image(image), self.images)
        return {"key": item.key, "fingerprint": fingerprint, "part": written.part, "lost": dict(written.lost)}


def _check_options(to: str, images: str, simplify_px: float) -> None:
    if to not in LABEL_WRITERS:
        raise ConfigError(f"`to={to}`: cannot be written; {nearest(to, LABEL_WRITERS)}")
    if not 0 <= simplify_px < float("inf"):
        raise ConfigError(f"`simplify_px={simplify_px:g}`: must be a number of pixels, from 0 on")
    if simplify_px and not LABEL_WRITERS[to].has_outlines:
        outlines = ", ".join(name for name, other in LABEL_WRITERS.items() if other.has_outlines)
        raise ConfigError(f"`simplify_px={simplify_px:g}`: {to} has no outlines; leave it out, or write {outlines}")
    if images not in get_args(ImagePlacement):
        raise ConfigError(f"`images={images}`: {nearest(images, get_args(ImagePlacement))}")


def _pending(job: _ConversionTask, items: Sequence[Item], ledger: Ledger) -> tuple[Sequence[Item], Counter[str]]:
    """The images that are not finished, and the pixels that were lost by the others.

    Raises:
        OutputError: the folder has images that the dataset does not have.
    """
    places, lost, known = array("Q"), Counter[str](), 0
    for place, item in enumerate(items):
        entry = ledger.find(item.key)
        known += entry is not None
        if entry is not None and entry["fingerprint"] == job.fingerprint(item):
            lost.update(entry["lost"])
        else:
            places.append(place)
    if known < len(ledger) and not job.model:
        raise OutputError(
            f"{job.folder}: has labels of {len(ledger) - known} images that the dataset no longer has by these names; "
            "delete the folder, or choose another `out`"
        )
    return Mapped(items.__getitem__, places), lost


def _begin_or_continue(job: _ConversionTask) -> None:
    """Write the settings before the first label: by their folder an unfinished conversion is recognised.

    Raises:
        OutputError: it has other settings. Predictions may: what they wrote with others is written again.
    """
    file = job.folder / LEDGER / SETTINGS
    if job.model or not file.is_file():
        write_json(file, {"settings": job.settings})
    elif json.loads(file.read_text(encoding="utf-8"))["settings"] != job.settings:
        raise OutputError(
            f"{job.folder}: holds an unfinished conversion to another format, or with other classes or settings; "
            "choose another `out`, or delete the folder"
        )


def _lost_when_complete(job: _ConversionTask, items: Sequence[Item]) -> dict[str, int] | None:
    """The pixels lost by a complete conversion of these images; None if it is not complete.

    Raises:
        OutputError: the folder has a complete conversion of something else.
    """
    file = job.folder / LEDGER / COMPLETE
    if not file.is_file():
        return None
    stored = json.loads(file.read_text(encoding="utf-8"))
    if stored["content"] != job.content(items, map(job.fingerprint, items)):
        raise OutputError(
            f"{job.folder}: holds a complete conversion of other files, or with other settings; choose another `out`, "
            "or delete the folder"
        )
    lost: dict[str, int] = stored["lost"]
    return lost


def _refuse_other_content(folder: Path) -> None:
    names = [path.name for path in folder.iterdir() if not path.name.endswith(LOCK)] if folder.is_dir() else []
    if names and LEDGER not in names:
        raise OutputError(
            f"{folder}: is not empty ({first_few(sorted(names))}), and not an unfinished conversion; "
            "choose another `out`"
        )


def _place_image(source: Path, target: Path, placement: ImagePlacement) -> None:
    if placement == "none":
        return
    if (window := window_at(source)) or placement == "copy":
        write_atomically(target, lambda it: it.write_bytes(window.encode()) if window else shutil.copyfile(source, it))
        return
    make_folder(target.parent)
    with explained_writes(target):
        target.unlink(missing_ok=True)  # of an earlier call: it may be another file by now
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or one without hard links
            target.symlink_to(source.resolve())


@dataclass(frozen=True)
class _SplitParts:
    """The `Parts` of a split, read from the ledger whenever they are iterated over; of some names, or of all."""

    ledger: Ledger
    split: str
    names: frozenset[str] | None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for entry in self.ledger.entries(below=f"{self.split}/"):
            name = entry["key"].partition("/")[2]
            if self.names is None or name in self.names:
                yield name, entry["part"]


def _assemble(job: _ConversionTask, ledger: Ledger, items: Sequence[Item]) -> None:
    """Write the files that all images share. Only predictions' ledgers can have images that are not among the items."""
    parts = {
        split: _SplitParts(
            ledger, split, frozenset(it.name for it in items if it.split == split) if job.model else None
        )
        for split, records in job.dataset.splits.items()
        if records
    }
    for path, pieces in job.writer.assemble(parts, job.dataset.classes):
        _write(job.folder / path, methodcaller("writelines", pieces))
    if job.writer.archived:
        _write(job.folder / ARCHIVE, partial(_zip, folder=job.folder, names=job.writer.archived(parts)))


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    def fill(part: Path) -> None:
        with part.open("wb") as file:
            write(file)

    write_atomically(path, fill)


def _zip(file: IO[bytes], *, folder: Path, names: Iterable[str]) -> None:
    with ZipFile(file, "w") as archive:
        for name in names:
            entry = ZipInfo(name)  # of 1980, so that the same content is the same file
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (folder / name).read_bytes())
