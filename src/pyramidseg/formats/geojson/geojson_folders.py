"""Georeferenced images with GeoJSON: a file for each image, or one for all.

images/a.tif    and    labels/a.geojson (or geojson, vectors, ...), with a folder for each split above or below
RGB/RGB_img7.tif    and    geojson/buildings/buildings_img7.geojson    (SpaceNet: what tells the names apart is equal)
rastertile_x/img_7_8.tif    and    vectortile_x/geoms_7_8.geojson    (solaris)
images/*.tif    and    buildings.geojson

Where masks are GeoTIFF on the grid of the images, the layout is `paired`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import ConfigError, DataError, nearest
from pyramidseg.base.json_stream import members
from pyramidseg.base.log import track
from pyramidseg.base.parallel import in_threads
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SourceLabel,
    SplitNames,
    already_read,
)
from pyramidseg.formats.dataset_yaml import ClassEntry
from pyramidseg.formats.geojson.features import read_geojson
from pyramidseg.formats.geojson.geojson_masks import OF_IMAGE, GeoJsonValues
from pyramidseg.formats.pairing import MatchedFiles, Side, key_of, pair
from pyramidseg.formats.paths import child_folder, content, holds_images, subfolders
from pyramidseg.formats.polygon_labels import BACKGROUND, BACKGROUND_NAMES, DRAWN, DrawnLabels
from pyramidseg.images.open_image import list_files, list_images

VECTORS = (".geojson",)
NAMED_VECTORS = (".geojson", ".json")
"""What a file of a YAML entry may end in."""

FOREGROUND = "foreground"
NAMELESS = "none"
"""What features are called that lack the property which names classes. They count nowhere unless made a class."""


@dataclass(frozen=True)
class _Sides:
    """A folder of images, and a folder of GeoJSON files or a single one."""

    images: Path
    vectors: Path


def read_geo(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """List images with their GeoJSON files.

    Raises:
        PartialMatch: there are GeoJSON files, but no images that they could belong to.
        DataError: several folders of images, or of GeoJSON files, could be meant.
    """
    if not list_files(folder, VECTORS):
        return None
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    found: dict[str, _Sides] = {}
    unclear: dict[str, MatchedFiles] = {}
    for split, path in inside.items():
        try:
            if path and (sides := _sides(path)):
                found[split] = sides
        except DataError as error:
            assert path is not None
            unclear[split] = MatchedFiles.of_error(path, error)
    layout = "{split} with images and GeoJSON"
    if not found and (whole := _sides(folder)):
        layout = "images and GeoJSON, with folders for the splits"
        found = _below(whole, splits)
        if not found and splits == SPLIT_NAMES:
            layout, found = "images and GeoJSON", {"train": whole}
    if not found:
        raise PartialMatch(f"{folder} holds GeoJSON files, but no images beside them or in one folder next to theirs")
    listing = ParsedDataset(layout, {})
    for split, sides in found.items():
        listing = with_vectors(listing, split, pair_vectors(sides.images, sides.vectors), origin=str(folder))
    for split, pairs in unclear.items():
        listing = with_vectors(listing, split, pairs, origin=str(folder))
    return listing


def is_vectors(path: Path) -> bool:
    """Whether a YAML file's `masks` are GeoJSON: a file of them, or a folder with such and without images."""
    if path.is_file():
        return path.suffix.lower() in NAMED_VECTORS
    return path.is_dir() and bool(list_files(path, VECTORS)) and not holds_images(path)


def pair_vectors(images: Path, vectors: Path) -> MatchedFiles:
    """Pair images with GeoJSON files by their names, or by what tells the names apart; one file belongs to all.

    Args:
        vectors: a folder, or a file. That nothing is in one of them is a defect.
    """
    image_files = list_images(images)
    if not image_files:
        return MatchedFiles.of_none(
            images, "no images in this folder; look for another path, or an unusual file format"
        )
    vector_files = [vectors] if vectors.is_file() else list_files(vectors, VECTORS)
    if not vector_files:
        return MatchedFiles.of_none(vectors, "no GeoJSON files in this folder (.geojson)")
    if len(vector_files) == 1:
        records = tuple(Record(key_of(image, images), image, vector_files[0]) for image in image_files)
        return MatchedFiles(records, notes=(f"{vector_files[0]} holds the polygons of all {len(records)} images",))
    folder = vectors.parent if vectors.is_file() else vectors
    image_side, vector_side = Side.of(images, image_files), Side.of(folder, vector_files)
    if not set(image_side.keys).isdisjoint(vector_side.keys):
        return pair(image_side, vector_side)
    (image_side, image_start), (vector_side, vector_start) = _by_ends(image_side), _by_ends(vector_side)
    pairs = pair(image_side, vector_side)
    note = f"images belong to GeoJSON files by what follows {image_start!r} and {vector_start!r} in their names"
    return replace(pairs, notes=(note, *pairs.notes))


def with_vectors(listing: ParsedDataset, split: str, pairs: MatchedFiles, *, origin: str) -> ParsedDataset:
    """A listing with one more split of polygons, all of one class as long as nobody says otherwise (`as_said`).

    Raises:
        DataError: another split has masks of another kind.
    """
    if any(listing.splits.values()) and not isinstance(listing.values, GeoJsonValues):
        raise DataError(f"{origin}: GeoJSON here, and another kind of masks in the other splits; make them one kind")
    drawn = DrawnLabels.of([FOREGROUND])
    note = f"{DRAWN}; of polygons that overlap, the smaller lies on top"
    return ParsedDataset(
        listing.layout,
        {**listing.splits, split: pairs.records},
        drawn.labels,
        GeoJsonValues(drawn.names, {}),
        notes=tuple(dict.fromkeys((*listing.notes, *pairs.notes, note))),
        defects=(*listing.defects, *pairs.defects),
    )


def as_said(
    listing: ParsedDataset,
    config: LabelConfig,
    *,
    classes: Sequence[ClassEntry] | None,
    assumed: Classes | None,
    source: str,
) -> ParsedDataset:
    """A listing with classes by `class_property` and coordinates by `vector_crs`, as far as these were given.

    Without the property, and with two classes given that are nothing else, the polygons are called by the one that is
    not the background.

    Raises:
        ConfigError: no feature has the property, or the masks are no GeoJSON.
    """
    values = listing.values
    if not isinstance(values, GeoJsonValues):
        for name in ("class_property", "vector_crs"):
            if (said := getattr(config, name)) is not None:
                raise ConfigError(
                    f"{source}: {name}={said}: it is for GeoJSON, which these masks are not; leave it out"
                )
        return listing
    if config.class_property is None:
        names = _two_names(classes, assumed)
        labels = tuple(SourceLabel(name, value) for value, name in enumerate(names))
        note = f"all polygons are {names[1]!r}; data.class_property=... names the property that parts them"
        return replace(
            listing,
            labels=labels,
            values=replace(values, names=names, crs=config.vector_crs),
            notes=(*listing.notes, note, _crs_note(config)),
        )
    found, nameless = _names(
        listing,
        config.class_property,
        source=source,
    )
    drawn = DrawnLabels.of([*sorted(found), *([NAMELESS] if nameless and NAMELESS not in found else [])])
    by_name = {**drawn.values, **({"": drawn.values[NAMELESS]} if nameless else {})}
    counts = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    notes = [f"polygons are parted by their property {config.class_property!r}: {counts}"]
    if nameless:
        notes.append(
            f"{nameless} polygons do not have it: they are called {NAMELESS!r} and ignored unless made a class"
        )
    return replace(
        listing,
        labels=tuple(replace(label, ignored=bool(nameless) and label.name == NAMELESS) for label in drawn.labels),
        values=GeoJsonValues(drawn.names, by_name, config.class_property, config.vector_crs),
        notes=(*listing.notes, *notes, _crs_note(config)),
    )


def _sides(folder: Path) -> _Sides | None:
    """The images and GeoJSON files in a folder, if there are both.

    Raises:
        DataError: there is more than one way to choose them.
    """
    inner = subfolders(folder)
    vectors = [path for path in inner if list_files(path, VECTORS)]
    images = [path for path in inner if path not in vectors and holds_images(path)]
    files = [path for path in content(folder) if path.name.lower().endswith(VECTORS) and path.is_file()]
    twins = [
        (raster, vector)
        for raster, vector in product(images, vectors)
        if vector.name.lower().replace("vector", "raster") == raster.name.lower()
    ]
    choices = twins or list(product(images, vectors or files))
    if not inner and files and holds_images(folder):
        choices = [(folder, folder)]
    if len(choices) > 1:
        named = "; or ".join(f"{{images: {raster.name}, masks: {vector.name}}}" for raster, vector in choices[:4])
        more = f", and {len(choices) - 4} more" if len(choices) > 4 else ""
        raise DataError(
            f"{folder}: images and GeoJSON files can be put together in several ways; name one in a YAML file, such as "
            f"train: {named}{more}"
        )
    return _Sides(*choices[0]) if choices else None


def _below(whole: _Sides, splits: SplitNames) -> dict[str, _Sides]:
    """`images/{split}` with `labels/{split}`, or with the one file for all."""
    found: dict[str, _Sides] = {}
    for split, names in splits.items():
        images = child_folder(whole.images, names)
        vectors = whole.vectors if whole.vectors.is_file() else child_folder(whole.vectors, names)
        if images and vectors:
            found[split] = _Sides(images, vectors)
    return found


def _by_ends(side: Side) -> tuple[Side, str]:
    """Keyed by what follows the words that all file names begin with; `7.0` as `7`, as solaris writes both."""
    names = [re.sub(r"(?<=\d)\.0+(?=_|$)", "", Path(key).name).split("_") for key in side.keys]
    shared = 0
    while all(len(words) > shared + 1 and words[shared] == names[0][shared] for words in names):
        shared += 1
    start = "_".join(names[0][:shared]) + "_" * bool(shared)
    return replace(side, keys=tuple("_".join(words[shared:]) for words in names)), start


def _two_names(classes: Sequence[ClassEntry] | None, assumed: Classes | None) -> tuple[str, str]:
    """What is not covered, and what is."""
    plain = classes is not None and not any(entry.value is not None or entry.merged for entry in classes)
    given = [entry.name for entry in classes or ()] if plain else []
    names = given or list(assumed.names if assumed is not None and classes is None else ())
    if len(names) != 2 or FOREGROUND in names:
        return BACKGROUND, FOREGROUND
    first, second = names
    return (second, first) if second.lower() in BACKGROUND_NAMES else (first, second)


def _names(listing: ParsedDataset, class_property: str, *, source: str) -> tuple[Counter[str], int]:
    """How many polygons have each value of a property, and how many lack it.

    Raises:
        ConfigError: none has it, though all files can be read.
    """
    files = list(dict.fromkeys(record.mask for some in listing.splits.values() for record in some if record.mask))
    found: Counter[str] = Counter()
    nameless, unread = 0, 0

    def names_in(file: Path) -> list[str | None] | None:
        try:
            return [feature.name for feature in read_geojson(file, class_property).features]
        except DataError:
            return None  # said by the check of all files

    what = "reading the properties of polygons"
    for names in track(in_threads(names_in, files), total=len(files), task=what):
        unread += names is None
        nameless += names.count(None) if names else 0
        found.update(name for name in names or () if name is not None)
    if not found and not unread:
        known = nearest(class_property, _properties(files))
        raise ConfigError(f"{source}: class_property={class_property}: no polygon has such a property; {known}")
    return found, nameless


def _properties(files: Iterable[Path]) -> set[str]:
    """The names of the properties in the first files."""
    names: set[str] = set()
    for file in list(files)[:100]:
        try:
            features: list[Any] = [member.value for member in members(file) if member.key == "features"]
        except DataError:
            continue
        for feature in features:
            properties = feature.get("properties") if isinstance(feature, dict) else None
            names |= set(properties) if isinstance(properties, dict) else set()
    return names


def _crs_note(config: LabelConfig) -> str:
    if config.vector_crs == OF_IMAGE:
        return "their coordinates are taken to be in the coordinate system of each image (data.vector_crs)"
    if config.vector_crs is not None:
        return f"their coordinates are taken to be in {config.vector_crs} (data.vector_crs)"
    return "their coordinates are in the system that each file names, or longitude and latitude on WGS 84 (RFC 7946)"


FORMAT = DatasetFormat(
    "geo",
    "GeoTIFF images with GeoJSON polygons, one file for each image or one for all",
    detect=read_geo,
    read=already_read,
)
