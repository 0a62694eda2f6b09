"""Cityscapes: `leftImg8bit/{split}/{city}/*_leftImg8bit.png`, `gtFine/{split}/{city}/*_gtFine_labelIds.png`.

M. Cordts et al., arXiv 1604.01685; names, ids and colours are those of the authors' cityscapesScripts
(helpers/labels.py).
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pyramidseg.base.classes import IGNORE, Color
from pyramidseg.data.color_masks import ColorValues, pack
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import ValueSource
from pyramidseg.formats.dataset_format import (
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SourceLabel,
    SplitNames,
    already_read,
)
from pyramidseg.formats.pairing import MatchedFiles, Side, pair
from pyramidseg.formats.paths import child_folder
from pyramidseg.images.open_image import list_images


class Label(NamedTuple):
    """A label of the authors; those without a train id are left out of training and evaluation."""

    name: str
    id: int
    train_id: int | None
    color: Color


LABELS = (
    Label("unlabeled", 0, None, (0, 0, 0)),
    Label("ego vehicle", 1, None, (0, 0, 0)),
    Label("rectification border", 2, None, (0, 0, 0)),
    Label("out of roi", 3, None, (0, 0, 0)),
    Label("static", 4, None, (0, 0, 0)),
    Label("dynamic", 5, None, (111, 74, 0)),
    Label("ground", 6, None, (81, 0, 81)),
    Label("road", 7, 0, (128, 64, 128)),
    Label("sidewalk", 8, 1, (244, 35, 232)),
    Label("parking", 9, None, (250, 170, 160)),
    Label("rail track", 10, None, (230, 150, 140)),
    Label("building", 11, 2, (70, 70, 70)),
    Label("wall", 12, 3, (102, 102, 156)),
    Label("fence", 13, 4, (190, 153, 153)),
    Label("guard rail", 14, None, (180, 165, 180)),
    Label("bridge", 15, None, (150, 100, 100)),
    Label("tunnel", 16, None, (150, 120, 90)),
    Label("pole", 17, 5, (153, 153, 153)),
    Label("polegroup", 18, None, (153, 153, 153)),
    Label("traffic light", 19, 6, (250, 170, 30)),
    Label("traffic sign", 20, 7, (220, 220, 0)),
    Label("vegetation", 21, 8, (107, 142, 35)),
    Label("terrain", 22, 9, (152, 251, 152)),
    Label("sky", 23, 10, (70, 130, 180)),
    Label("person", 24, 11, (220, 20, 60)),
    Label("rider", 25, 12, (255, 0, 0)),
    Label("car", 26, 13, (0, 0, 142)),
    Label("truck", 27, 14, (0, 0, 70)),
    Label("bus", 28, 15, (0, 60, 100)),
    Label("caravan", 29, None, (0, 0, 90)),
    Label("trailer", 30, None, (0, 0, 110)),
    Label("train", 31, 16, (0, 80, 100)),
    Label("motorcycle", 32, 17, (0, 0, 230)),
    Label("bicycle", 33, 18, (119, 11, 32)),
)
"""All labels that masks can hold: the licence plate, -1, is in the polygons alone."""

IMAGE_SUFFIX = "_leftImg8bit"


class Encoding(NamedTuple):
    """One of the kinds of masks that lie beside each other."""

    suffix: str
    values: ValueSource
    labels: tuple[SourceLabel, ...]
    note: str = ""


def _by_id() -> tuple[SourceLabel, ...]:
    return tuple(SourceLabel(label.name, label.id, label.color, ignored=label.train_id is None) for label in LABELS)


def _by_train_id() -> tuple[SourceLabel, ...]:
    named = tuple(
        SourceLabel(label.name, label.train_id, label.color) for label in LABELS if label.train_id is not None
    )
    return (*named, SourceLabel("void", IGNORE, ignored=True))


def _by_color() -> tuple[SourceLabel, ...]:
    """One label a colour: the class where an ignored label shares its colour, which happens to the polegroup."""
    ranked = sorted(LABELS, key=lambda label: label.train_id is None)  # classes first
    first = {label.color: label for label in reversed(ranked)}
    return tuple(
        SourceLabel(label.name, pack(label.color), label.color, ignored=label.train_id is None)
        for label in LABELS
        if first[label.color] is label
    )


ENCODINGS = (
    Encoding("_labelIds", IndexValues(), _by_id()),
    Encoding("_labelTrainIds", IndexValues(), _by_train_id()),
    Encoding(
        "_color",
        ColorValues(tuple(label.value for label in _by_color())),
        _by_color(),
        "a polegroup, which is ignored in labelIds, has the colour of a pole and counts as one",
    ),
)
"""In the order of preference."""


def read_cityscapes(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """List gtFine, or gtCoarse where it is alone; the test split, whose labels are withheld, is left out.

    Raises:
        PartialMatch: the images or the masks are missing.
    """
    images = child_folder(folder, ["leftimg8bit"])
    truths = {name: path for name in ("gtFine", "gtCoarse") if (path := child_folder(folder, [name.lower()]))}
    if images is None and not truths:
        return None
    if images is None or not truths:
        have, lack = (images, "gtFine") if images else (next(iter(truths.values())), "leftImg8bit")
        raise PartialMatch(f"{have} is there but no {lack}: unpack both archives of Cityscapes into one folder")
    kind, truth = next(iter(truths.items()))
    notes = ["gtCoarse is there too and is not read"] if len(truths) == 2 else []
    sides = {split: (child_folder(images, names), child_folder(truth, names)) for split, names in splits.items()}
    if any(sides.pop("test", ())):
        notes.append("the test split was left out: Cityscapes withholds its labels")
    encoding = _encoding(truth, (masks for _, masks in sides.values() if masks))
    pairs: dict[str, MatchedFiles] = {}
    for split, (image_folder, mask_folder) in sides.items():
        if image_folder and mask_folder:
            pairs[split] = _pair(image_folder, mask_folder, f"_{kind}{encoding.suffix}")
        elif image_folder or mask_folder:
            lone, other = (image_folder, truth) if image_folder else (mask_folder, images)
            assert lone is not None
            pairs[split] = MatchedFiles.of_none(
                lone, f"there is no such folder in {other}; unpack it there, or take this one away"
            )
    return ParsedDataset(
        f"Cityscapes (leftImg8bit, {kind} {encoding.suffix[1:]})",
        {split: found.records for split, found in pairs.items()},
        encoding.labels,
        encoding.values,
        notes=(*notes, *([encoding.note] if encoding.note else [])),
        defects=tuple(defect for found in pairs.values() for defect in found.defects),
    )


def _encoding(truth: Path, folders: Iterable[Path]) -> Encoding:
    stems = {file.stem for folder in folders for file in list_images(folder)}
    for encoding in ENCODINGS:
        if any(stem.endswith(encoding.suffix) for stem in stems):
            return encoding
    raise PartialMatch(f"{truth} holds no *_labelIds.png, *_labelTrainIds.png or *_color.png")


def _pair(images: Path, masks: Path, mask_suffix: str) -> MatchedFiles:
    image_side = Side.of(images, list_images(images))
    if not image_side.files:
        return MatchedFiles.of_none(
            images, "no images in this folder; unpack them there, or take it and its partner away"
        )
    bare = replace(image_side, keys=tuple(key.removesuffix(IMAGE_SUFFIX) for key in image_side.keys))
    of_kind = (file for file in list_images(masks) if file.stem.endswith(mask_suffix))
    return pair(bare, Side.of(masks, of_kind).without(mask_suffix))


FORMAT = DatasetFormat(
    "cityscapes",
    "leftImg8bit and gtFine",
    detect=read_cityscapes,
    read=already_read,
)
