"""Detect and read images with GeoJSON files. The package shows the format."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, PartialMatch, SplitNames
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.formats.pairing import MatchedFiles, Side, key_of, pair
from pyramidseg.formats.paths import child_folder, content, holds_images, subfolders
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels
from pyramidseg.formats.region_masks import ONE_CLASS
from pyramidseg.formats.yaml_proposal import AmbiguousFoldersError
from pyramidseg.images.image_files import list_files, list_images

VECTORS = (".geojson",)
NAMED_VECTORS = (".geojson", ".json")
"""Extensions of a file that a YAML file names as masks."""

_Sides = tuple[Path, Path]
"""A folder of images, and a folder of GeoJSON files or a single one."""


class GeoFiles(NamedTuple):
    """The images and GeoJSON files of each split."""

    layout: str
    splits: Mapping[str, _Sides]


def detect(folder: Path, splits: SplitNames) -> GeoFiles | None:
    """Find GeoJSON files and their images.

    Raises:
        PartialMatch: there are GeoJSON files, but no images next to them.
        DataError: several folders of images, or of GeoJSON files, could be meant.
    """
    if not list_files(folder, VECTORS):
        return None
    places = {split: child_folder(folder, names) for split, names in splits.items()}
    found = {split: sides for split, place in places.items() if place and (sides := _sides(place))}
    if found:
        return GeoFiles("{split} with images and GeoJSON", found)
    if whole := _sides(folder):
        if below := _below(whole, splits):
            return GeoFiles("images and GeoJSON, with folders for the splits", below)
        if splits == SPLIT_NAMES:
            return GeoFiles("images and GeoJSON", {"train": whole})
    raise PartialMatch(f"{folder} holds GeoJSON files, but no images next to them or in one folder next to theirs")


def read(found: GeoFiles, _: object) -> ParsedDataset:
    """Pair the images of each split with their GeoJSON files."""
    parsed = ParsedDataset(found.layout, {})
    for split, (images, vectors) in found.splits.items():
        parsed = with_vectors(parsed, split, pair_vectors(images, vectors))
    return parsed


FORMAT = DatasetFormat(
    "geo", "GeoTIFF images with GeoJSON polygons, one file for each image or one for all", detect, read
)


def is_vectors(path: Path) -> bool:
    """Whether the `masks` of a YAML file are GeoJSON: a GeoJSON file, or a folder of such without images."""
    if path.is_file():
        return path.suffix.lower() in NAMED_VECTORS
    return path.is_dir() and bool(list_files(path, VECTORS)) and not holds_images(path)


def pair_vectors(images: Path, vectors: Path) -> MatchedFiles:
    """Pair images with GeoJSON files by their names, or by the part of the names that differs.

    A single file that is named like no image, or that `vectors` names, belongs to all.

    Args:
        vectors: a folder, or a file. A side without files is a defect.
    """
    image_files = list_images(images)
    if not image_files:
        return MatchedFiles.of_none(images, "no images in this folder; check the path and the file extensions")
    vector_files = [vectors] if vectors.is_file() else list_files(vectors, VECTORS)
    if not vector_files:
        return MatchedFiles.of_none(vectors, "no GeoJSON files in this folder (.geojson)")
    if vectors.is_file():
        return _one_for_all(images, image_files, vectors)
    image_side, vector_side = Side.of(images, image_files), Side.of(vectors, vector_files)
    if not set(image_side.keys).isdisjoint(vector_side.keys):
        return pair(image_side, vector_side)
    (image_side, image_prefix), (vector_side, vector_prefix) = _without_prefix(image_side), _without_prefix(vector_side)
    if len(vector_files) == 1 and set(image_side.keys).isdisjoint(vector_side.keys):
        return _one_for_all(images, image_files, vector_files[0])
    pairs = pair(image_side, vector_side)
    note = f"images and GeoJSON files are paired by what follows {image_prefix!r} and {vector_prefix!r} in their names"
    return replace(pairs, notes=(note, *pairs.notes))


def _one_for_all(images: Path, image_files: list[Path], file: Path) -> MatchedFiles:
    records = tuple(Record(key_of(image, images), image, file) for image in image_files)
    return MatchedFiles(records, notes=(f"{file} holds the polygons of all {len(records)} images",))


def with_vectors(listing: ParsedDataset, split: str, pairs: MatchedFiles) -> ParsedDataset:
    """Add a split of polygons. All are of one class until `apply_label_config` is called."""
    drawn = DrawnLabels.of([ONE_CLASS])
    note = f"{DRAWN}; where polygons overlap, the smaller is on top"
    return ParsedDataset(
        listing.layout,
        {**listing.splits, split: pairs.records},
        drawn.labels,
        GeoJsonMasks(drawn.names, {}),
        notes=tuple(dict.fromkeys((*listing.notes, *pairs.notes, note))),
        defects=(*listing.defects, *pairs.defects),
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
        detail = "images and GeoJSON files can be combined in several ways"
        raise AmbiguousFoldersError(folder, detail, choices)
    return choices[0] if choices else None


def _below(whole: _Sides, splits: SplitNames) -> dict[str, _Sides]:
    """`images/{split}` with `labels/{split}`, or with the one file for all."""
    images, vectors = whole
    found: dict[str, _Sides] = {}
    for split, names in splits.items():
        inner = child_folder(images, names)
        labels = vectors if vectors.is_file() else child_folder(vectors, names)
        if inner and labels:
            found[split] = inner, labels
    return found


def _without_prefix(side: Side) -> tuple[Side, str]:
    """Keys without the words that all of them begin with, and that prefix; `7.0` is `7`, as solaris writes both."""
    names = [re.sub(r"(?<=\d)\.0+(?=_|$)", "", Path(key).name).split("_") for key in side.keys]
    shared = 0
    while all(len(words) > shared + 1 and words[shared] == names[0][shared] for words in names):
        shared += 1
    prefix = "_".join(names[0][:shared]) + "_" * bool(shared)
    return replace(side, keys=tuple("_".join(words[shared:]) for words in names)), prefix
