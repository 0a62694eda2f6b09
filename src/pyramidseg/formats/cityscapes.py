"""Cityscapes.

    leftImg8bit/train/bonn/bonn_000000_000019_leftImg8bit.png
    gtFine/train/bonn/bonn_000000_000019_gtFine_labelIds.png     or *_labelTrainIds.png or *_color.png; or gtCoarse
    leftImg8bit/val/...    gtFine/val/...

Source: M. Cordts et al., arXiv 1604.01685; names, ids and colours are those of the authors' cityscapesScripts
(helpers/labels.py).
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from pyramidseg.base.classes import IGNORE
from pyramidseg.data.color_masks import ColorValues, pack
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import ValueSource
from pyramidseg.formats.dataset_format import (
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SourceLabel,
    SplitNames,
    color_labels,
)
from pyramidseg.formats.paired import paired_dataset
from pyramidseg.formats.pairing import MatchedFiles, Side, pair
from pyramidseg.formats.paths import child_folder
from pyramidseg.images.image_files import list_images

_TABLE = """
    unlabeled #000000; ego vehicle #000000; rectification border #000000; out of roi #000000; static #000000;
    dynamic #6f4a00; ground #510051; road #804080; sidewalk #f423e8; parking #faaaa0; rail track #e6968c;
    building #464646; wall #66669c; fence #be9999; guard rail #b4a5b4; bridge #966464; tunnel #96785a;
    pole #999999; polegroup #999999; traffic light #faaa1e; traffic sign #dcdc00; vegetation #6b8e23;
    terrain #98fb98; sky #4682b4; person #dc143c; rider #ff0000; car #00008e; truck #000046; bus #003c64;
    caravan #00005a; trailer #00006e; train #005064; motorcycle #0000e6; bicycle #770b20
"""

_IGNORED = (
    *("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "parking"),
    *("rail track", "guard rail", "bridge", "tunnel", "polegroup", "caravan", "trailer"),
)

LABELS = color_labels(_TABLE, ignored=_IGNORED)
"""All labels that masks can hold, by id; those that are ignored in training and evaluation have no train id. The
licence plate, -1, occurs only in the polygons."""

IMAGE_SUFFIX = "_leftImg8bit"


class Encoding(NamedTuple):
    """One of the kinds of masks that the dataset contains."""

    suffix: str
    values: ValueSource
    labels: tuple[SourceLabel, ...]
    note: str = ""


_OF_COLOR = {label.color: label for label in sorted(LABELS, key=lambda label: label.ignored)[::-1]}
"""One label for each colour, the first; a class if an ignored label has the same colour, as the polegroup has."""

BY_COLOR = tuple(
    replace(label, value=pack(label.color)) for label in LABELS if label.color and _OF_COLOR[label.color] is label
)
BY_TRAIN_ID = (
    *(replace(label, value=number) for number, label in enumerate(label for label in LABELS if not label.ignored)),
    SourceLabel("void", IGNORE, ignored=True),
)
"""Train ids number the labels that are not ignored."""

ENCODINGS = (
    Encoding("_labelIds", IndexValues(), LABELS),
    Encoding("_labelTrainIds", IndexValues(), BY_TRAIN_ID),
    Encoding(
        "_color",
        ColorValues(tuple(label.value for label in BY_COLOR)),
        BY_COLOR,
        "polegroups, which are ignored in labelIds, have the colour of poles and are read as poles",
    ),
)
"""In order of preference."""


def detect(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """Find gtFine, or gtCoarse if there is no gtFine, and pair the images of each split with their masks.

    The test split, whose labels are not published, is left out.

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
    notes = ["gtCoarse is not read, because there is gtFine"] if len(truths) == 2 else []
    sides = {split: (child_folder(images, names), child_folder(truth, names)) for split, names in splits.items()}
    if any(sides.pop("test", ())):
        notes.append("the test split was left out: Cityscapes does not publish its labels")
    encoding = _encoding(truth, (masks for _, masks in sides.values() if masks))
    notes += filter(None, [encoding.note])
    pairs: dict[str, MatchedFiles] = {}
    for split, (own_images, masks) in sides.items():
        if own_images and masks:
            pairs[split] = _pair(own_images, masks, f"_{kind}{encoding.suffix}")
        elif present := own_images or masks:
            place = truth if own_images else images
            detail = f"there is no such folder in {place}; unpack it there, or remove this one"
            pairs[split] = MatchedFiles.of_none(present, detail)
    parsed = paired_dataset(f"Cityscapes (leftImg8bit, {kind} {encoding.suffix[1:]})", pairs, notes=notes)
    return replace(parsed, labels=encoding.labels, values=encoding.values)


FORMAT = DatasetFormat("cityscapes", "leftImg8bit and gtFine", detect, read=lambda parsed, _: parsed)


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
            images, "no images in this folder; unpack them there, or remove it and the folder of its masks"
        )
    mask_side = Side.of(masks, (file for file in list_images(masks) if file.stem.endswith(mask_suffix)))
    bare, bare_masks = (
        replace(side, keys=tuple(key.removesuffix(suffix) for key in side.keys))
        for side, suffix in ((image_side, IMAGE_SUFFIX), (mask_side, mask_suffix))
    )
    return pair(bare, bare_masks)
