"""Masks of one class or one object each, of which every image has several.

    images/a.jpg    masks/car/a.png  masks/tree/a.png          mask_name: "{class}/{stem}", "{stem}_{class}", ...
    3f2a/images/3f2a.png    3f2a/masks/01.png  3f2a/masks/02.png    as in the Data Science Bowl of 2018

The first is read where `mask_name` says so (`paired`), the second is a format of its own. What is above 0 in a mask
belongs to its class or object.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from pyramidseg.annotations.polygons import Location, runs_of_pixels
from pyramidseg.base.config import ANY_NAME, CLASS, STEM, LabelConfig
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import first_few
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.name_matching import readings, without_extension
from pyramidseg.formats.pairing import key_of
from pyramidseg.formats.paths import child_folder, content, counted, subfolders
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels
from pyramidseg.formats.region_masks import ONE_CLASS, Objects, Region, RegionMasks, Size, mask_pixels
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousReadingError
from pyramidseg.images.image_files import count_extensions, is_image_name, list_images, list_masks

_SAMPLED = 20

LabelledFiles = tuple[tuple[str, Path], ...]
"""The masks of an image, each with the name of its class."""


ObjectFolders = Mapping[str, tuple[Path, ...]]
"""By split, a folder for each image, which holds the image and a folder of masks."""


def detect(root: Path, splits: SplitNames) -> ObjectFolders | None:
    """Find folders of one image and its masks, some with several, in the folder or in those of splits."""
    named = {split: folder for split, names in splits.items() if (folder := child_folder(root, names))}
    found = {split: tuple(subfolders(place)) for split, place in (named or {"train": root}).items()}
    is_fitting = any(_has_objects(folder) for folders in found.values() for folder in folders[:_SAMPLED])
    return found if is_fitting else None


def read(found: ObjectFolders, config: LabelConfig) -> ParsedDataset:
    """List the images and their masks; `mask_name` states what the names of masks are.

    Raises:
        ConfigError: `mask_name` is anything else than a class or any name.
        AmbiguousReadingError: masks of several images have the same name, which may be a class or a number.
    """
    if config.mask_name not in (None, CLASS, ANY_NAME):
        raise ConfigError(
            f"mask_name={config.mask_name}: each image has a folder of masks here; allowed: {CLASS} or {ANY_NAME}"
        )
    files: dict[str, dict[Path, LabelledFiles]] = {}
    ids: dict[Path, str] = {}
    defects: list[Defect] = []
    left_out: list[str] = []
    unread: list[Path] = []
    for split, folders in found.items():
        files[split] = {}
        for folder in folders:
            images, masks, others = _files_of(folder)
            unread += others
            if masks is None:
                left_out.append(folder.name)
            elif len(images) != 1:
                detail = "does not hold exactly one image, next to the folder of its masks or in a folder images"
                defects.append(Defect(DefectKind.MISSING_IMAGE, folder, detail))
            else:
                is_class = config.mask_name == CLASS
                files[split][images[0]] = tuple((file.stem if is_class else ONE_CLASS, file) for file in masks)
                ids[images[0]] = folder.name
    counts = Counter(file.stem for by_image in files.values() for some in by_image.values() for _, file in some)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated and config.mask_name is None:
        raise AmbiguousReadingError(
            f"masks of several images are called {repeated[0]!r}, which may be the name of a class or of an object",
            [
                Alternative("the names of masks are classes", {"mask_name": CLASS}),
                Alternative("each mask is an object of one class, whatever its name", {"mask_name": ANY_NAME}),
            ],
        )
    if unread:
        detail = f"{count_extensions(unread)}, such as {unread[0].name}, are not read as masks; save them as PNG"
        defects.append(Defect(DefectKind.UNREADABLE_MASK, unread[0], detail))
    parsed = _dataset("a folder of masks for each image", files, ids)
    notes = [f"folders without a folder masks were left out: {first_few(left_out)}"] if left_out else []
    return replace(parsed, defects=tuple(defects), notes=(*notes, *parsed.notes))


FORMAT = DatasetFormat(
    "object_masks",
    "a folder for each image, with the image and a folder masks of a file for each object",
    detect,
    read,
    settings=("mask_name",),
)


def _has_objects(folder: Path) -> bool:
    """Whether a folder has one image and several masks, without a list of thousands of others."""
    images, masks = _image_and_mask_folders(folder)
    return (
        masks is not None and counted(images, is_image_name, most=2) == 1 and counted(masks, is_image_name, most=2) > 1
    )


def _image_and_mask_folders(folder: Path) -> tuple[Path, Path | None]:
    return child_folder(folder, ("images", "image")) or folder, child_folder(folder, ("masks",))


def _files_of(folder: Path) -> tuple[list[Path], list[Path] | None, list[Path]]:
    """The images in a folder or in `images` in it; the masks in `masks`, if that is there; other files in `masks`."""
    outer, inside = _image_and_mask_folders(folder)
    images = content(outer, is_image_name)
    files = content(inside) if inside else []
    masks = [path for path in files if is_image_name(path.name)]
    return images, masks if inside else None, [path for path in files if not is_image_name(path.name)]


def read_named(layout: str, folders: Mapping[str, tuple[Path, Path]], pattern: str) -> ParsedDataset:
    """List the images of each split, and their masks by a pattern with `{stem}` and `{class}`.

    Args:
        folders: of images and of masks, which may be the same.
    """
    files: dict[str, dict[Path, LabelledFiles]] = {}
    ids: dict[Path, str] = {}
    defects: list[Defect] = []
    notes = [f"masks are named {pattern!r}, where {STEM} is the name of the image"]
    for split, (image_folder, mask_folder) in folders.items():
        images, masks = list_images(image_folder), list_masks(mask_folder)
        keys = [key_of(file, image_folder) for file in images], [key_of(file, mask_folder) for file in masks]
        found: dict[Path, list[tuple[str, Path]]] = {}
        for stems, names in readings(*keys):
            by_stem = {stem.removeprefix("/"): image for stem, image in zip(stems, images, strict=True)}
            for name, file in zip(names, masks, strict=True):
                parts = ((by_stem.get(stem), label) for stem, label in _parts(name.removeprefix("/"), pattern))
                if match := next(((image, label) for image, label in parts if image not in (None, file)), None):
                    found.setdefault(match[0], []).append((match[1], file))
            if found:
                break
        used = {file for some in found.values() for _, file in some}
        alone = [file for file in images if file not in found and file not in used]
        detail = f"no mask in {mask_folder} is named {pattern!r} after it; add one, or remove the image"
        defects += [Defect(DefectKind.MISSING_MASK, file, detail) for file in alone]
        rest = [file for file in masks if file not in used] if mask_folder != image_folder else []
        if rest:
            notes.append(f"{len(rest)} files in {mask_folder}, such as {rest[0].name}, are not named so: left out")
        files[split] = {image: tuple(found[image]) for image in images if image in found}
        ids.update({image: key_of(image, image_folder) for image in found})
    parsed = _dataset(layout, files, ids)
    return replace(parsed, notes=(*notes, *parsed.notes), defects=tuple(defects))


def _parts(key: str, pattern: str) -> Iterator[tuple[str, str]]:
    """The stem and the class that a mask's name may consist of, the longest first part first."""
    is_stem_first = pattern.index(STEM) < pattern.index(CLASS)
    before, between, after = without_extension(pattern).replace(CLASS, STEM).split(STEM)
    if not (key.startswith(before) and key.endswith(after) and len(key) > len(before) + len(after)):
        return
    inner = key[len(before) : len(key) - len(after)]
    at = inner.rfind(between)
    while at > 0:
        first, second = inner[:at], inner[at + len(between) :]
        yield (first, second) if is_stem_first else (second, first)
        at = inner.rfind(between, 0, at + len(between) - 1)


def _dataset(layout: str, files: Mapping[str, Mapping[Path, LabelledFiles]], ids: Mapping[Path, str]) -> ParsedDataset:
    labels = {label for images in files.values() for some in images.values() for label, _ in some}
    drawn = DrawnLabels.of(sorted(labels))
    by_image = {str(image): some for images in files.values() for image, some in images.items()}
    splits = {
        split: tuple(Record(ids[image], image, some[0][1] if some else image) for image, some in images.items())
        for split, images in files.items()
    }
    overlap = "where masks overlap, the smaller object is on top"
    values = RegionMasks(partial(_objects, files=by_image), _regions, drawn.values, drawn.names)
    return ParsedDataset(layout, splits, drawn.labels, values, notes=(f"{DRAWN}; {overlap}",))


def _objects(record: Record, files: Mapping[str, LabelledFiles]) -> Objects:
    return Objects(None, [(file.name, (label, file)) for label, file in files[str(record.image)]])


def _regions(labelled: tuple[str, Path], size: Size, where: Location) -> Iterable[Region]:
    label, file = labelled
    pixels = mask_pixels(file, size)
    values: Sequence[int] = np.unique(pixels).tolist()
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise Location(file).error(f"has the values {values[:4]}, where a mask of one object has 0 and another one")
    return [Region(label, runs_of_pixels(pixels > 0, height=size[0]))]
