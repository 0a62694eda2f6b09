"""The confusion matrix, and the metrics that are computed from it.

Every metric is a ratio of pixel counts, and NaN if it is 0 / 0: IoU and Dice of a class in neither truth nor
prediction, precision of a class that is never predicted, recall of a class that never occurs. Means are taken over the
values that are not NaN. A class that is only predicted has IoU and Dice 0, which are part of the means.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.base.classes import IGNORE, MAX_CLASSES, Classes
from pyramidseg.base.errors import DataError
from pyramidseg.base.files import finite

_VALUES = 256
"""Numbers of a byte: every label is one."""


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class, in [0, 1] or NaN.

    Attributes:
        pixels: true pixels of this class.
    """

    id: int
    name: str
    iou: float
    dice: float
    precision: float
    recall: float
    pixels: int


@dataclass(frozen=True)
class Metrics:
    """Metrics of a whole split.

    Attributes:
        mean_class_accuracy: mean recall of the classes that occur, like scikit-learn's `balanced_accuracy_score`.
    """

    miou: float
    pixel_accuracy: float
    mean_class_accuracy: float
    mean_dice: float
    images: int
    classes: tuple[ClassMetrics, ...]

    @property
    def error(self) -> float:
        """Share of labelled pixels that are wrong."""
        return 1.0 - self.pixel_accuracy

    def to_dict(self) -> dict[str, Any]:
        """The content of metrics.json; NaN becomes None."""
        return {**finite(asdict(self))}


@dataclass(frozen=True)
class ImageScore:
    """Metrics of one image; its mIoU is over the classes in its truth or prediction.

    Attributes:
        pixels: labelled pixels.
    """

    record_id: str
    miou: float
    pixel_accuracy: float
    pixels: int


@dataclass(frozen=True)
class Scores:
    """Result of scoring a split.

    Attributes:
        confusion: (K, K) int64 on the CPU; rows are true, columns predicted classes.
        per_image: in the order of the records.
        loss: mean over all labelled pixels; None if no loss function was given.
        by_set: `scores_of_set` of each of joined datasets that has labelled pixels.
    """

    metrics: Metrics
    confusion: Tensor
    per_image: tuple[ImageScore, ...]
    loss: float | None
    by_set: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def confusion_matrix(labels: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column); true label 255 is ignored.

    Args:
        labels: predicted class ids, any integer dtype, any shape.
        truth: class ids and 255; same shape and device.

    Returns:
        (K, K) int64 on the device of the labels.

    Raises:
        DataError: a label is not a known class, or the shapes differ.
    """
    if labels.shape != truth.shape:
        raise DataError(
            f"labels have shape {tuple(labels.shape)}, but truth has shape {tuple(truth.shape)}; they must be equal"
        )
    assert 1 <= num_classes <= MAX_CLASSES
    _check_bytes(labels, "predicted label")
    _check_bytes(truth, "true label")
    # Count all 256 values: dropping the ignored row afterwards is several times faster than masking pixels before.
    # uint8 wraps at 256: widen before adding the row's offset.
    cells = (truth.flatten().long() * _VALUES).add_(labels.flatten())
    counts = torch.bincount(cells, minlength=_VALUES * _VALUES).view(_VALUES, _VALUES)
    valid = counts[:num_classes, :num_classes]
    if valid.sum() != counts[:IGNORE].sum():
        raise DataError(
            f"{_first_unknown(counts[:IGNORE], num_classes)} is not a known class (known: 0-{num_classes - 1})"
        )
    return valid.clone()


def argmax_labels(logits: Tensor) -> Tensor:
    """Class of the largest logit, (B, K, H, W) to (B, H, W); the first of equal ones.

    The same as `logits.argmax(dim=1)`, which takes up to five times as long on a CPU.
    """
    return logits.max(dim=1).indices


def _check_bytes(values: Tensor, what: str) -> None:
    if values.dtype == torch.uint8 or values.numel() == 0:
        return
    low, high = (int(value) for value in values.aminmax())
    if low < 0 or high >= _VALUES:
        raise DataError(
            f"{what} {low if low < 0 else high} is not a class id: labels are class ids from 0, or {IGNORE} for ignored"
        )


def _first_unknown(counts: Tensor, num_classes: int) -> str:
    rows, columns = (axis.tolist() for axis in counts.nonzero(as_tuple=True))
    true = [row for row in rows if row >= num_classes]
    return f"true label {true[0]}" if true else f"predicted label {max(columns)}"


def compute_metrics(confusion: Tensor, classes: Classes, *, images: int) -> Metrics:
    """All metrics of a (K, K) confusion matrix, in float64."""
    counts = _counts(confusion)
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    iou = _ratio(hits, true + predicted - hits)
    dice = _ratio(2 * hits, true + predicted)
    precision = _ratio(hits, predicted)
    recall = _ratio(hits, true)
    by_class = zip(classes.names, *(values.tolist() for values in (iou, dice, precision, recall, true)), strict=True)
    return Metrics(
        miou=_nanmean(iou),
        pixel_accuracy=_pixel_accuracy(counts),
        mean_class_accuracy=_nanmean(recall),
        mean_dice=_nanmean(dice),
        images=images,
        classes=tuple(ClassMetrics(index, *values) for index, values in enumerate(by_class)),
    )


def compute_image_score(record_id: str, confusion: Tensor) -> ImageScore:
    """Metrics of one image from its own (K, K) confusion matrix."""
    counts = _counts(confusion)
    hits = np.diag(counts)
    iou = _ratio(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)
    return ImageScore(record_id, _nanmean(iou), _pixel_accuracy(counts), int(counts.sum()))


def scores_of_set(confusion: Tensor, *, images: int) -> dict[str, float]:
    """The mIoU and pixel accuracy on one of joined datasets; only classes that its images show are part of the mean."""
    counts = _counts(confusion)
    hits, true = np.diag(counts), counts.sum(axis=1)
    miou = _nanmean(_ratio(hits, true + counts.sum(axis=0) - hits)[true > 0])
    return {"miou": miou, "pixel_accuracy": _pixel_accuracy(counts), "images": images}


def _counts(confusion: Tensor) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = confusion.cpu().numpy()
    assert counts.dtype == np.int64
    assert counts.shape == (len(counts), len(counts))
    return counts


def _pixel_accuracy(counts: NDArray[np.int64]) -> float:
    return float(_ratio(np.array([np.trace(counts)]), np.array([counts.sum()]))[0])


def _ratio(numerator: NDArray[np.int64], denominator: NDArray[np.int64]) -> NDArray[np.float64]:
    ratio = np.full(len(numerator), math.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def _nanmean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
