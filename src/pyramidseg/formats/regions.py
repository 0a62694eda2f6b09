"""What the tools that keep regions in files of their own share: find the images that they name, and draw the regions.

A format lists `Entry`s, one for each image, with the bytes of its file that describe it. `region_dataset` finds the
images by name and divides them into splits; `RegionMasks` reads the bytes again when a mask is needed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import (
    Location,
    Polygons,
    Ring,
    Shape,
    check_inside_image,
    rasterise,
    runs_of_pixels,
)
from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import MAX_TOGETHER, JsonSlices
from pyramidseg.base.safe_paths import short
from pyramidseg.base.text_files import read_text
from pyramidseg.data.index_masks import describe_names
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import SPLIT_NAMES, ParsedDataset, SplitNames
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels, similar_names_note
from pyramidseg.images.decode import image_size
from pyramidseg.images.file_checks import check_pixel_count
from pyramidseg.images.image_files import list_images

Size = tuple[int, int]
"""Height and width."""

ONE_CLASS = "foreground"
"""The class of regions that nobody named."""


class PlacedMask(NamedTuple):
    """The True pixels of an array, whose first pixel is the image's pixel (top, left)."""

    pixels: NDArray[np.bool_]
    top: int = 0
    left: int = 0


class Region(NamedTuple):
    """An object: rings of parts (even-odd within a part), or a mask. Higher layers are on top; then smaller regions."""

    label: str
    area: Sequence[Sequence[Ring]] | PlacedMask
    layer: int = 0


class RegionReader(NamedTuple):
    """The two functions of a format, at the top level of a module, so that they can be pickled.

    Attributes:
        objects: takes the bytes of an entry apart, unchecked.
        regions: the regions of one object, given the size of its image and the place that errors name.
        size: of formats with a file for each image: the size that its bytes state; all of the file are an entry.
    """

    objects: Callable[[bytes, Location], Iterable[Any]]
    regions: Callable[[Any, Size, Location], Iterable[Region]]
    size: Callable[[bytes, Location], Size | None] | None = None


@dataclass(frozen=True)
class Entry:
    """An image that an annotation file describes.

    Attributes:
        name: of the image as the file states it; folders before it may be missing on this machine.
        file: the annotation file.
        spans: the bytes, from and up to, that `RegionReader.objects` gets together.
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
        names: of classes in their order, as far as the files declare one.
        without_area: number of objects by their type that enclose nothing.
    """

    entries: list[Entry] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    without_area: Counter[str] = field(default_factory=Counter)
    defects: DefectCollector = field(default_factory=DefectCollector)
    notes: list[str] = field(default_factory=list)


def region_dataset(
    layout: str, listing: Listing, reader: RegionReader, root: Path, splits: SplitNames, *, overlap: str
) -> ParsedDataset:
    """Find the images of the entries, and list the records.

    Args:
        overlap: which of two regions is on top, as a clause.
    """
    images = list_images(root)
    finder = ImageFinder(images)
    found: dict[str, dict[str, tuple[Record, Entry]]] = {split: {} for split in splits}
    defects, used, seen = listing.defects, set[Path](), dict[str, Path]()
    left_out = 0
    for entry in listing.entries:
        with defects.collect():
            image = finder.find(entry.name, entry.file, entry.other_name)
            id = image.relative_to(root).with_suffix("").as_posix()
            if id in seen:
                kind = DefectKind.REPEATED_ID if seen[id] == image else DefectKind.SAME_STEM
                raise DefectError(kind, entry.file, f"{short(entry.name)}: {id} is described more than once; keep one")
            seen[id] = image
            used.add(image)
            split = split_of(entry, image, root, splits)
            if split is None:
                left_out += 1
            else:
                found[split][id] = (Record(id, image, entry.file), entry)
    used_labels = dict.fromkeys(label for entry in listing.entries for label in entry.labels)
    ordered = [name for name in dict.fromkeys(listing.names) if name in used_labels]
    unused = [name for name in dict.fromkeys(listing.names) if name not in used_labels]
    drawn = DrawnLabels.of([*ordered, *sorted(set(used_labels) - set(ordered))])
    notes = [f"{DRAWN}; where regions overlap, {overlap}", *listing.notes]
    if unused:
        notes.append(f"classes that no region has were left out: {', '.join(map(short, unused[:8]))}")
    if listing.without_area:
        counts = ", ".join(f"{count} {type}" for type, count in sorted(listing.without_area.items()))
        notes.append(f"objects without an outline are not drawn ({counts}); outline them if they are needed")
    unlabelled = [image for image in images if image not in used]
    if unlabelled and seen:
        notes.append(f"{len(unlabelled)} images, such as {unlabelled[0]}, are in no annotation file and were left out")
    if left_out:
        notes.append(f"{left_out} images belong to no split and were left out")
    pairs = [pair for split in found.values() for pair in split.values()]
    return ParsedDataset(
        layout,
        {split: tuple(record for record, _ in of_split.values()) for split, of_split in found.items() if of_split},
        drawn.labels,
        RegionMasks(reader, _files(pairs) if reader.size is None else {}, drawn.values, drawn.names),
        notes=(*notes, *similar_names_note(used_labels)),
        defects=defects.defects,
    )


class ImageFinder:
    """Finds images by names whose leading folders may differ from those of this machine."""

    def __init__(self, images: Iterable[Path]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for image in images:
            self._by_name.setdefault(image.name, []).append(image)
            self._by_stem.setdefault(image.stem, []).append(image)

    def find_stem(self, stem: str, file: Path) -> Path:
        """The image of a name without its extension; see `find`."""
        found = self._by_stem.get(stem, [])
        return found[0] if len(found) == 1 else self.find(stem if not found else found[0].name, file)

    def find(self, name: str, file: Path, other_name: str | None = None) -> Path:
        """The image that shares the most trailing parts with a name; only files of the dataset can be found.

        Raises:
            DefectError: there is none, or several share as many.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts[::-1]
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
            raise DefectError(DefectKind.SAME_STEM, file, detail)
        return candidates[0]


def split_of(entry: Entry, image: Path, root: Path, splits: SplitNames) -> str | None:
    """The split that an entry states, or of the folder of its file or its image; train if there is none."""
    words = [
        entry.split or "",
        *entry.file.relative_to(root).with_suffix("").parts,
        *image.relative_to(root).parts[:-1],
    ]
    for word in words:
        for split, names in splits.items():
            if word.lower() in names:
                return split
    return "train" if splits == SPLIT_NAMES else None


@dataclass(frozen=True, eq=False)
class RegionFile:
    """The entries of one annotation file.

    Attributes:
        slices: the spans of all entries.
        positions: of entries, by the id of their record.
        first: (entries + 1,) the first span of each entry.
        sizes: (entries, 2) height and width; 0 if not stated.
    """

    slices: JsonSlices
    positions: Mapping[str, int]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]


def _files(pairs: Sequence[tuple[Record, Entry]]) -> dict[str, RegionFile]:
    by_file: dict[Path, list[tuple[Record, Entry]]] = {}
    for pair in pairs:
        by_file.setdefault(pair[1].file, []).append(pair)
    return {str(file): _region_file(file, some) for file, some in by_file.items()}


def _region_file(file: Path, pairs: Sequence[tuple[Record, Entry]]) -> RegionFile:
    spans = [span for _, entry in pairs for span in entry.spans]
    return RegionFile(
        JsonSlices.of(file, [start for start, _ in spans], [end for _, end in spans]),
        {record.id: position for position, (record, _) in enumerate(pairs)},
        np.cumsum([0, *(len(entry.spans) for _, entry in pairs)]),
        np.array([entry.size or (0, 0) for _, entry in pairs], np.int64),
    )


@dataclass(frozen=True, eq=False)
class RegionMasks:
    """Draws the mask of a record, whose `mask` is the annotation file.

    Attributes:
        values: by label.
        names: of the classes, by value; 0 is background.
    """

    reader: RegionReader
    files: Mapping[str, RegionFile]
    values: Mapping[str, int]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        data, size = self._entry(record)
        assert record.mask is not None
        height, width = size or image_size(record.image)
        where, defects = Location(record.mask, record.id), DefectCollector()
        check_pixel_count(record.mask, height, width)
        shapes: list[Shape] = []
        for number, object in enumerate(self.reader.objects(data, where), start=1):
            place = Location(where.file, f"object {number} of {record.id}")
            with defects.collect():
                for region in self.reader.regions(object, (height, width), place):
                    shapes.append(self._shape(region, (height, width), record.image, place))
        defects.raise_if_any()
        return rasterise(shapes, height=height, width=width, where=where)

    def _entry(self, record: Record) -> tuple[bytes, Size | None]:
        """The bytes that describe an image, and the size that they state.

        Raises:
            DataError: it was not described when the dataset was opened, or the file is unreadable.
        """
        if self.reader.size is not None and record.mask is not None:
            data = read_text(record.mask, most=MAX_TOGETHER).encode()
            return data, self.reader.size(data, Location(record.mask, record.id))
        file = self.files.get(str(record.mask))
        position = None if file is None else file.positions.get(record.id)
        if file is None or position is None:
            raise DataError(f"{record.image}: is in none of the annotation files of this dataset")
        height, width = file.sizes[position].tolist()
        spans = range(file.first[position], file.first[position + 1])
        return file.slices.read_bytes(spans), (height, width) if min(height, width) > 0 else None

    def _shape(self, region: Region, size: Size, image: Path, where: Location) -> Shape:
        height, width = size
        if region.label not in self.values:
            raise where.error(f"label {short(region.label)} was added after the dataset was opened; start again")
        value = self.values[region.label]
        if isinstance(region.area, PlacedMask):
            pixels, top, left = region.area
            return runs_of_pixels(value, pixels, top=top, left=left, height=height, width=width, layer=region.layer)
        for ring in (ring for part in region.area for ring in part):
            check_inside_image(ring, height=height, width=width, image=image, where=where)
        return Polygons(value, region.area, region.layer)

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        if self.reader.size is not None:
            return self._entry(record)[1] is not None
        file = self.files[str(record.mask)]
        return bool(file.sizes[file.positions[record.id]].min() > 0)

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)


def ellipse(x: float, y: float, rx: float, ry: float, *, degrees: float = 0.0, size: Size, where: Location) -> Ring:
    """An ellipse as a ring of 256 points, whose area differs from the ellipse's by 0.01 %.

    Raises:
        DataError: a number is not finite, or a radius is not positive.
    """
    numbers = np.array([x, y, rx, ry, degrees], np.float64)
    if not np.isfinite(numbers).all() or min(rx, ry) <= 0 or max(rx, ry) > 4 * max(size):
        raise where.error("its centre and radii have to be finite numbers, the radii above 0; draw it again")
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    turn = np.deg2rad(degrees)
    along, across = rx * np.cos(angles), ry * np.sin(angles)
    points: Ring = np.stack(
        [x + along * np.cos(turn) - across * np.sin(turn), y + along * np.sin(turn) + across * np.cos(turn)], 1
    )
    return np.clip(points, 0, (size[1], size[0]))
