"""Proposals of an inspection: a dataset file with everything that was recognised, and settings that fit the images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyramidseg.base.classes import Classes
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.data.records import Dataset
from pyramidseg.formats.yaml_proposal import yaml_lines
from pyramidseg.inspection.defect_summary import UnknownValue
from pyramidseg.inspection.inspect_pair import ImageFacts
from pyramidseg.inspection.pair_collector import SplitSummary

COARSEST_STRIDE = 32
"""Crops are multiples of it, because the network pads its input to such sizes."""

USUAL_CROP, LARGE_CROP, LARGE_SIDE = 320, 512, 1024
"""The default recipe's crop, and a larger one for images whose short side has at least `LARGE_SIDE` pixels."""

MAX_IGNORED_SHARE, MAX_IGNORED_VALUES = 0.01, 32
"""Unknown values are proposed to be ignored up to this share of all pixels, and this number of values."""


@dataclass(frozen=True)
class Proposal:
    """Files and settings that fit a dataset.

    Attributes:
        dataset: content of a dataset file; empty for a `Dataset` made in Python.
        remarks: what users should check in it; written as comments.
        settings: by section, for `train --config`.
    """

    dataset: Mapping[str, Any]
    remarks: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]

    def dataset_yaml(self) -> str:
        """The dataset file: remarks, then one key a line and one class a line."""
        return "\n".join([*(f"# {remark}" for remark in self.remarks), *yaml_lines(self.dataset)]) + "\n"


def propose(
    dataset: Dataset,
    images: Sequence[ImageFacts],
    statistics: Mapping[str, SplitSummary],
    defects: Sequence[Defect],
    unknown_values: Sequence[UnknownValue],
) -> Proposal:
    """Propose settings, and the description that the dataset was opened by, with rare unknown values ignored."""
    content, settings = dict(dataset.description), propose_settings(images)
    if not content:
        return Proposal({}, (), settings)
    remarks = ["proposed by pyramidseg inspect; check it, then train on this file"]
    remarks += [
        f"unclear: {defect.detail.partition(';')[0]}" for defect in defects if defect.kind is DefectKind.UNCLEAR_CLASSES
    ]
    if "classes" in content and dataset.classes.names == Classes.unnamed(len(dataset.classes)).names:
        remarks.append("give the classes their names")
    known = sum(sum(counted.pixels) + counted.ignored for counted in statistics.values())
    unknown = sum(value.pixels for value in unknown_values)
    few = len(unknown_values) <= MAX_IGNORED_VALUES and unknown <= MAX_IGNORED_SHARE * (known + unknown)
    if unknown_values and few and not dataset.sets:
        values = [int(value.name) if value.name.isdecimal() else value.name for value in unknown_values]
        content["ignore"] = list(dict.fromkeys([*content.get("ignore", []), *values]))
        remarks.append(f"ignored, because they are rare and not known classes: {', '.join(map(str, values))}")
    elif unknown_values:
        names = [value.name for value in unknown_values[:MAX_IGNORED_VALUES]]
        why = "of one of the sources" if dataset.sets else "too frequent to be ignored automatically"
        remarks.append(f"not known classes, but {why}: {', '.join(names)}")
    return Proposal(content, tuple(remarks), settings)


def propose_settings(images: Sequence[ImageFacts]) -> dict[str, dict[str, Any]]:
    """Crop and channels that fit the images.

    The crop is at most as large as 90 % of the images, in multiples of 32, up to the default recipe's or, for large
    images, `LARGE_CROP`.
    """
    if not images:
        return {}
    sizes = np.array([facts[:2] for facts in images])
    most = LARGE_CROP if np.median(sizes.min(axis=1)) >= LARGE_SIDE else USUAL_CROP
    low = np.quantile(sizes, 0.1, axis=0) // COARSEST_STRIDE * COARSEST_STRIDE
    crop = [int(side) for side in np.clip(low, COARSEST_STRIDE, most)]
    ((usual, _),) = Counter(facts.channels for facts in images).most_common(1)
    settings: dict[str, dict[str, Any]] = {"data": {"crop": crop}, "loss": {"class_weights": "sqrt_median_frequency"}}
    return {"model": {"in_channels": usual}, **settings} if usual != 3 else settings
