"""What the tools that keep regions in files of their own share: find their files, and the images that they name.

A format lists `Entry`s, one for each image. `region_dataset` finds the images by name and divides them into splits;
`region_masks` draws the masks.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pyramidseg.annotations.polygons import Location
from pyramidseg.base.classes import Color
from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.json_stream import JsonSlices
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.safe_paths import short
from pyramidseg.base.text import first_few
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import SPLIT_NAMES, ParsedDataset, SplitNames
from pyramidseg.formats.paths import content, subfolders
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels, similar_names_note
from pyramidseg.formats.region_masks import Objects, Region, RegionMasks, SharedFile, SharedFiles, Size
from pyramidseg.images.image_files import is_image_name, list_images

_MAX_FILES = 200
_SHOWN = 8


class ToolExport(NamedTuple):
    """The annotation files of a folder."""

    root: Path
    splits: SplitNames
    files: tuple[Path, ...]


def export_files(root: Path, suffix: str) -> list[Path]:
    """The files of a type in a folder and in those in it; without folders that have one for each image."""
    by_folder = (
        [path for path in content(place, lambda name: name.lower().endswith(suffix)) if path.is_file()]
        for place in (root, *subfolders(root))
    )
    return [file for files in by_folder if len(files) <= _MAX_FILES for file in files]


@dataclass(frozen=True)
class Entry:
    """An image that an annotation file describes.

    Attributes:
        name: of the image as the file states it; folders before it may be missing on this machine.
        file: the annotation file.
        spans: the bytes, from and up to, that describe the image in a file of many images.
        size: as stated in the file.
        labels: names of its regions that have an area.
        split: as stated in the file.
        other_name: tried if there is no image of the first name.
    """

    name: str
    file: Path
    spans: tuple[tuple[int, int], ...] = ()
    size: Size | None = None
    labels: tuple[str, ...] = ()
    split: str | None = None
    other_name: str | None = None


@dataclass
class Listing:
    """What the annotation files of a dataset hold.

    Attributes:
        declared: colours of the classes that the files declare, by name, in their order; None if they state none.
        without_area: number of objects by their type that enclose nothing.
        masks: files of the format, which are not images of the dataset.
    """

    entries: list[Entry] = field(default_factory=list)
    declared: dict[str, Color | None] = field(default_factory=dict)
    without_area: Counter[str] = field(default_factory=Counter)
    defects: DefectCollector = field(default_factory=DefectCollector)
    notes: list[str] = field(default_factory=list)
    masks: set[Path] = field(default_factory=set)

    def add_files(
        self, files: Sequence[Path], summary: Callable[[Path], tuple[Entry, Iterable[str]] | None]
    ) -> set[Path]:
        """Add files of one image each, read in threads; returns those of another format.

        Args:
            summary: the entry of a file, and the types of its objects without an area; None if it is of another format.
        """

        def read(file: Path) -> tuple[Entry, Iterable[str]] | DefectError | None:
            try:
                return summary(file)
            except DefectError as error:
                return error

        others = set()
        for file, found in zip(files, map_in_threads(read, files), strict=True):
            if isinstance(found, DefectError):
                self.defects.add(*found.defects)
            elif found is None:
                others.add(file)
            else:
                self.entries.append(found[0])
                self.without_area.update(found[1])
        return others


Pairs = list[tuple[Record, Entry]]


def region_dataset(
    tool: str,
    found: ToolExport,
    listing: Listing,
    *,
    regions: Callable[[Any, Size, Location], Iterable[Region]],
    parse: Callable[[Sequence[bytes], Location], Iterable[tuple[str, Any]]] | None = None,
    objects: Callable[[Record], Objects] | None = None,
    overlap: str,
    ids_below_splits: bool = False,
) -> ParsedDataset:
    """Find the images of the entries, and list the records.

    Args:
        regions: see `RegionMasks`.
        parse: of files of many images, see `SharedFiles`.
        objects: of files of one image each, see `RegionMasks`.
        overlap: which of two regions is on top, as a clause.
        ids_below_splits: whether ids leave out a first folder that is a split.
    """
    images = [image for image in list_images(found.root) if image not in listing.masks]
    by_split, notes = _pair(found, listing, images, own_files=objects is not None, ids_below_splits=ids_below_splits)
    used_labels = dict.fromkeys(label for entry in listing.entries for label in entry.labels)
    declared = listing.declared
    drawn = DrawnLabels.of([*declared, *sorted(set(used_labels) - set(declared))], declared)
    if unused := [short(name) for name in declared if name not in used_labels and drawn.values[name]]:
        notes.append(f"no region has the classes {first_few(unused, limit=_SHOWN)}")
    counts = ", ".join(f"{count} {type}" for type, count in sorted(listing.without_area.items()))
    if counts and not used_labels:
        detail = f"has no outlined object with a label, but {counts}, which are not masks; outline the objects"
        listing.defects.add(Defect(DefectKind.BAD_ANNOTATION, found.files[0], detail))
    elif counts:
        notes.append(f"objects without an outline are not drawn ({counts}); outline them if they are needed")
    if objects is None:
        assert parse is not None
        objects = SharedFiles(_shared_files(by_split.values()), parse).objects
    files = first_few((file.relative_to(found.root) for file in found.files), limit=_SHOWN)
    return ParsedDataset(
        f"{tool} ({files})",
        {split: tuple(record for record, _ in pairs) for split, pairs in by_split.items() if pairs},
        drawn.labels,
        RegionMasks(objects, regions, drawn.values, drawn.names),
        notes=(f"{DRAWN}; where regions overlap, {overlap}", *listing.notes, *notes, *similar_names_note(used_labels)),
        defects=listing.defects.defects,
    )


def _pair(
    found: ToolExport, listing: Listing, images: list[Path], *, own_files: bool, ids_below_splits: bool
) -> tuple[dict[str, Pairs], list[str]]:
    """The records and entries of each split, and notes."""
    finder = ImageFinder(images)
    by_split: dict[str | None, Pairs] = {}
    used: dict[str, tuple[Path, Path]] = {}
    renamed: list[str] = []
    for entry in listing.entries:
        with listing.defects.collect():
            image = finder.find(entry.name, entry.file, entry.other_name, folder=entry.split or "")
            id = image.relative_to(found.root).with_suffix("").as_posix()
            if id in used:
                other, file = used[id]
                kind = DefectKind.REPEATED_ID if other == image else DefectKind.SAME_STEM
                again = "more than once" if file == entry.file else f"in {file.relative_to(found.root)}, too"
                raise DefectError(kind, entry.file, f"{short(entry.name)}: {id} is described {again}; keep one")
            used[id] = image, entry.file
            if image.name == entry.other_name and not entry.name.endswith(image.name):
                renamed.append(entry.name)
            split = _split_of(entry, image, found, own_files=own_files)
            folder, _, below = id.partition("/")
            if ids_below_splits and folder.lower() in found.splits.get(split or "", ()):
                id = below
            by_split.setdefault(split, []).append((Record(id, image, entry.file), entry))
    notes = []
    without_split = by_split.pop(None, [])
    if found.splits == SPLIT_NAMES and "train" not in by_split:
        by_split["train"] = without_split
    elif without_split:
        notes.append(f"{len(without_split)} images, such as {without_split[0][0].image}, belong to no split: left out")
    if renamed:
        notes.append(
            f"{len(renamed)} images, such as {short(renamed[0])}, are not in the dataset: found by another name"
        )
    there = {image for image, _ in used.values()}
    unlabelled = [image for image in images if image not in there]
    if unlabelled and used:
        notes.append(f"{len(unlabelled)} images, such as {unlabelled[0]}, are in no annotation file and were left out")
    return {split: by_split.get(split, []) for split in found.splits}, notes


class ImageFinder:
    """Finds images by names whose leading folders may differ from those of this machine."""

    def __init__(self, images: Iterable[Path]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for image in images:
            self._by_name.setdefault(image.name, []).append(image)
            self._by_stem.setdefault(image.stem, []).append(image)

    def find(self, name: str, file: Path, other_name: str | None = None, folder: str = "") -> Path:
        """The image that shares the most trailing parts with a name, which may lack its extension.

        Only files of the dataset can be found. Of images of one name, that in `folder` is taken.

        Raises:
            DefectError: there is none, or several share as many.
        """
        if not is_image_name(name) and len(found := self._by_stem.get(name, [])) == 1:
            return found[0]
        parts = PurePosixPath(folder, name.replace("\\", "/")).parts[::-1]
        candidates = self._by_name.get(parts[0], []) if parts else []
        candidates = candidates or self._by_name.get(other_name or "", [])
        for depth in range(1, len(parts)):
            closer = [path for path in candidates if path.parts[::-1][depth : depth + 1] == parts[depth : depth + 1]]
            candidates = closer or candidates
        beside = [path for path in candidates if path.parent == file.parent]
        candidates = beside if len(candidates) > 1 and beside else candidates
        if not candidates:
            detail = f"describes the image {short(name)}, which is not in the dataset; add it, or remove its entry"
            raise DefectError(DefectKind.MISSING_IMAGE, file, detail)
        if len(candidates) > 1:
            detail = f"the image {short(name)} could be {candidates[0]} or {candidates[1]}; rename or remove one"
            raise DefectError(DefectKind.BAD_ANNOTATION, file, detail)
        return candidates[0]


def _split_of(entry: Entry, image: Path, found: ToolExport, *, own_files: bool) -> str | None:
    """The split that an entry states, or of the folder of its file or its image, or of the name of a file of many."""
    file = entry.file.relative_to(found.root).with_suffix("").parts
    words = [entry.split or "", *(file[:-1] if own_files else file), *image.relative_to(found.root).parts[:-1]]
    of_word = {name: split for split, names in found.splits.items() for name in names}
    return next((of_word[word.lower()] for word in words if word.lower() in of_word), None)


def _shared_files(by_split: Iterable[Pairs]) -> Mapping[str, SharedFile]:
    by_file: dict[Path, Pairs] = {}
    for pairs in by_split:
        for pair in pairs:
            by_file.setdefault(pair[1].file, []).append(pair)
    files: dict[str, SharedFile] = {}
    for file, pairs in by_file.items():
        spans = [span for _, entry in pairs for span in entry.spans]
        files[str(file)] = SharedFile(
            JsonSlices.of(file, [start for start, _ in spans], [end for _, end in spans]),
            {record.id: position for position, (record, _) in enumerate(pairs)},
            np.cumsum([0, *(len(entry.spans) for _, entry in pairs)]),
            np.array([entry.size or (0, 0) for _, entry in pairs], np.int64),
        )
    return files
