"""What an inspection proposes: a dataset file that says everything that was found, and settings that fit the images."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from pyramidseg.base.classes import Classes
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.data.records import Dataset
from pyramidseg.inspection.class_statistics import SplitSummary, Tally
from pyramidseg.inspection.image_table import ImageTable

COARSEST_STRIDE = 32
"""Crops are multiples of it, as the network pads to it."""

USUAL_CROP, LARGE_CROP, LARGE_SIDE = 320, 512, 1024
"""The default recipe's crop; and a larger one where the short side of images has so many pixels."""

RARE, FEW = 0.01, 32
"""Values that are no class are proposed to be ignored where they are no larger a part of all pixels, and no more."""


@dataclass(frozen=True)
class StrayValue:
    """A value in masks that is no class; `name` is the value in words: a number, a colour or a name."""

    name: str
    pixels: int
    masks: int


@dataclass(frozen=True)
class Proposal:
    """What one would write oneself after reading the report.

    Attributes:
        dataset: content of a dataset file; empty where the dataset was made in Python.
        remarks: what to check in it, as its comments say.
        settings: by section, for `train --config`.
        class_weights: the square roots of median frequency over class frequency, as training would have them.
    """

    dataset: Mapping[str, Any]
    remarks: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]
    class_weights: tuple[float, ...]

    def dataset_yaml(self) -> str:
        """The dataset file, a class a line, its remarks at the top."""
        lines = [f"# {remark}" for remark in self.remarks]
        for key, value in self.dataset.items():
            if key == "classes":
                lines += ["classes:", *(f"- {_flow(entry)}" for entry in value)]
            else:
                lines.append(f"{key}: {_flow(value)}")
        return "\n".join(lines) + "\n"


def propose(
    dataset: Dataset,
    table: ImageTable,
    tallies: Mapping[str, Tally],
    defects: Sequence[Defect],
    strays: Sequence[StrayValue],
) -> Proposal:
    """Everything that the inspection of a dataset leads to."""
    train = next(iter(tallies.values())).summary() if tallies else None
    content, remarks = _propose_dataset(dataset, tallies, defects, strays)
    return Proposal(content, remarks, propose_settings(table), propose_weights(train) if train else ())


def propose_settings(table: ImageTable) -> dict[str, dict[str, Any]]:
    """Crop and channels by what the images have.

    The crop is as large as nearly all images (all but the smallest tenth), in multiples of 32, up to the default
    recipe's; larger where images are.
    """
    known = table.known
    if not known.any():
        return {}
    short = float(np.median(np.minimum(table.height[known], table.width[known])))
    most = LARGE_CROP if short >= LARGE_SIDE else USUAL_CROP
    crop = [_crop(np.quantile(side[known], 0.1), most) for side in (table.height, table.width)]
    channels, counts = np.unique(table.channels[known], return_counts=True)
    usual = int(channels[counts.argmax()])
    settings: dict[str, dict[str, Any]] = {"data": {"crop": crop}, "loss": {"class_weights": "sqrt_median_frequency"}}
    return {"model": {"in_channels": usual}, **settings} if usual != 3 else settings


def propose_weights(train: SplitSummary) -> tuple[float, ...]:
    """`loss.class_weights=sqrt_median_frequency` in numbers; 1 for a class that does not occur."""
    frequency = np.array(train.pixels) / np.maximum(1, train.presence_pixels)
    occurs = frequency > 0
    weights = np.ones(len(frequency))
    if occurs.any():
        weights[occurs] = np.sqrt(np.median(frequency[occurs]) / frequency[occurs])
    return tuple(weights.tolist())


def sequence_pattern(ids: Sequence[str]) -> str | None:
    """A pattern for `data.group`: what stands before the number at the end of an id; None where that parts nothing."""
    pattern = r"^(.*?)[-_ ]?\d+$"
    names = [match[1] for name in ids if (match := re.match(pattern, name))]
    if len(names) < len(ids) or not 2 <= len(set(names)) <= len(names) / 2:
        return None
    return pattern


def _propose_dataset(
    dataset: Dataset, tallies: Mapping[str, Tally], defects: Sequence[Defect], strays: Sequence[StrayValue]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the dataset was opened by, with rare stray values ignored; and what to check in it."""
    content: dict[str, Any] = dict(dataset.description)
    if not content:
        return {}, ()
    remarks = ["proposed by pyramidseg inspect; check it, then train on this file"]
    remarks += [
        f"unclear: {defect.detail.partition(';')[0]}" for defect in defects if defect.kind is DefectKind.UNCLEAR_CLASSES
    ]
    if "threshold" in content and "classes" not in content:
        remarks.append("the masks are grey and lossy: a level parts them into background and foreground")
    elif "classes" in content and dataset.classes.names == Classes.numbered(len(dataset.classes)).names:
        remarks.append("give the classes their names")
    pixels = sum(int(tally.pixels.sum()) + tally.ignored for tally in tallies.values())
    found = sum(stray.pixels for stray in strays)
    if strays and len(strays) <= FEW and found <= RARE * (pixels + found):
        numbers = [int(stray.name) if stray.name.isdecimal() else stray.name for stray in strays]
        content["ignore"] = list(dict.fromkeys([*content.get("ignore", []), *numbers]))
        remarks.append(f"ignored, as no class and rare: {', '.join(map(str, numbers))}")
    elif strays:
        names = [stray.name for stray in strays[:FEW]]
        remarks.append(f"no class, and too much to be ignored unasked: {', '.join(names)}")
    ids = [record.id for records in dataset.splits.values() for record in records]
    if "val_share" in content and "group" not in content and (pattern := sequence_pattern(ids)):
        remarks.append(f"if images of equal names but for a number belong together, keep them so by group: {pattern!r}")
    return content, tuple(remarks)


def _crop(side: float, most: int) -> int:
    return int(min(max(side // COARSEST_STRIDE, 1) * COARSEST_STRIDE, most))


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()
