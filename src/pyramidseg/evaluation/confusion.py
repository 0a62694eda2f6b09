"""The confusion matrix, from which every figure of DESIGN section 5 follows."""

import torch
from torch import Tensor

from pyramidseg.base.classes import IGNORE, MAX_CLASSES
from pyramidseg.base.errors import DataError

_VALUES = 256


def confusion_matrix(labels: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Count pixels by true class (row) and predicted class (column); truth 255 counts nowhere.

    Args:
        labels: predicted class ids, any integer dtype, any shape.
        truth: class ids and 255, of the same shape, on the same device.

    Returns:
        (K, K) int64 on the device of the labels.

    Raises:
        DataError: a value that is no class; nothing is left out of the count in silence.
    """
    if labels.shape != truth.shape:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} against truth of shape {tuple(truth.shape)}: must agree"
        )
    assert 1 <= num_classes <= MAX_CLASSES
    _check_bytes(labels, "predicted label")
    _check_bytes(truth, "true label")
    # All 256 values get a row: dropping the ignored row afterwards is several times faster than masking pixels before.
    # uint8 wraps at 256: widen before adding the row's offset.
    cells = (truth.flatten().long() * _VALUES).add_(labels.flatten())
    counts = torch.bincount(cells, minlength=_VALUES * _VALUES).view(_VALUES, _VALUES)
    valid = counts[:num_classes, :num_classes]
    if valid.sum() != counts[:IGNORE].sum():
        raise DataError(f"{_stranger(counts[:IGNORE], num_classes)} is no class: known are 0-{num_classes - 1}")
    return valid.clone()


def most_likely(logits: Tensor) -> Tensor:
    """Class of the largest logit, (B, K, H, W) to (B, H, W); the first of equal ones.

    As argmax gives it, which takes up to five times as long on a CPU.
    """
    return logits.max(dim=1).indices


def _check_bytes(values: Tensor, what: str) -> None:
    if values.dtype == torch.uint8 or values.numel() == 0:
        return
    low, high = (int(value) for value in values.aminmax())
    if low < 0 or high >= _VALUES:
        raise DataError(f"{what} {low if low < 0 else high} is no class: labels are class ids from 0, or {IGNORE}")


def _stranger(counts: Tensor, num_classes: int) -> str:
    rows, columns = (axis.tolist() for axis in counts.nonzero(as_tuple=True))
    true = [row for row in rows if row >= num_classes]
    return f"true label {true[0]}" if true else f"predicted label {max(columns)}"
