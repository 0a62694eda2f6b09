"""The confusion matrix, from which all metrics are computed."""

import torch
from torch import Tensor

from pyramidseg.base.classes import IGNORE, MAX_CLASSES
from pyramidseg.base.errors import DataError

_VALUES = 256


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
