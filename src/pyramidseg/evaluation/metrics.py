"""Figures of merit from a confusion matrix (DESIGN section 5).

Every figure is its plain ratio of pixel counts, and NaN where that is 0 / 0: the IoU and the Dice of a class that is
in neither truth nor prediction, the precision of one never predicted, the recall of one that never occurs. NaN is
left out of means. A class that is only predicted has IoU and Dice 0, which count.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.base.text import none_if_nan


@dataclass(frozen=True)
class ClassMetrics:
    """Figures of one class, in [0, 1] or NaN.

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
    """Figures over a whole split.

    Attributes:
        mean_class_accuracy: mean recall of the classes that occur (scikit-learn's balanced accuracy).
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
        """The content of metrics.json (DESIGN section 4), NaN as None."""
        return {
            "miou": none_if_nan(self.miou),
            "pixel_accuracy": none_if_nan(self.pixel_accuracy),
            "mean_class_accuracy": none_if_nan(self.mean_class_accuracy),
            "mean_dice": none_if_nan(self.mean_dice),
            "images": self.images,
            "classes": [
                {
                    "id": entry.id,
                    "name": entry.name,
                    "iou": none_if_nan(entry.iou),
                    "dice": none_if_nan(entry.dice),
                    "precision": none_if_nan(entry.precision),
                    "recall": none_if_nan(entry.recall),
                    "pixels": entry.pixels,
                }
                for entry in self.classes
            ],
        }


@dataclass(frozen=True)
class ImageScore:
    """Figures of one image by itself: classes that are in neither its truth nor its prediction do not count.

    Attributes:
        pixels: labelled pixels.
    """

    record_id: str
    miou: float
    pixel_accuracy: float
    pixels: int


@dataclass(frozen=True)
class Scores:
    """What scoring a split gives.

    Attributes:
        confusion: (K, K) int64 on the CPU, rows truth, columns prediction.
        per_image: in the order of the records.
        loss: over all labelled pixels; None where no loss was asked for.
    """

    metrics: Metrics
    confusion: Tensor
    per_image: tuple[ImageScore, ...]
    loss: float | None


def metrics_of(confusion: Tensor, classes: Classes, *, images: int) -> Metrics:
    """All figures of a (K, K) confusion matrix; float64 throughout."""
    counts = _counts(confusion)
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    iou = _ratio(hits, true + predicted - hits)
    dice = _ratio(2 * hits, true + predicted)
    precision = _ratio(hits, predicted)
    recall = _ratio(hits, true)
    return Metrics(
        miou=_mean(iou),
        pixel_accuracy=_pixel_accuracy(counts),
        mean_class_accuracy=_mean(recall),
        mean_dice=_mean(dice),
        images=images,
        classes=tuple(
            ClassMetrics(
                id=index,
                name=name,
                iou=float(iou[index]),
                dice=float(dice[index]),
                precision=float(precision[index]),
                recall=float(recall[index]),
                pixels=int(true[index]),
            )
            for index, name in enumerate(classes.names)
        ),
    )


def image_score(record_id: str, confusion: Tensor) -> ImageScore:
    """Figures of one image from its own (K, K) confusion matrix."""
    counts = _counts(confusion)
    hits = np.diag(counts)
    iou = _ratio(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)
    return ImageScore(record_id, _mean(iou), _pixel_accuracy(counts), int(counts.sum()))


def _counts(confusion: Tensor) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = confusion.cpu().numpy()
    assert counts.dtype == np.int64
    assert counts.shape == (len(counts), len(counts))
    return counts


def _pixel_accuracy(counts: NDArray[np.int64]) -> float:
    return float(_ratio(np.array([np.trace(counts)]), np.array([counts.sum()]))[0])


def _ratio(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = np.divide(above, below, out=np.full(len(above), math.nan), where=below > 0)
    return ratio


def _mean(figures: NDArray[np.float64]) -> float:
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if len(known) else math.nan
