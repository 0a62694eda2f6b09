"""Image normalisation: scaling by the range of the dtype, then by mean and standard deviation."""

import torch
from torch import Tensor

INTEGER_RANGES: dict[torch.dtype, float] = {torch.uint8: 255.0, torch.uint16: 65535.0}
"""Unsigned integer images are scaled by the range of their dtype; floats and signed integers are not scaled."""


def normalize(image_BCHW: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) of any dtype to zero mean and unit deviation, in the dtype of `mean`.

    Args:
        mean, std: (C,) in units of the type's range for unsigned integers, in raw units for all others.
    """
    unit = INTEGER_RANGES.get(image_BCHW.dtype, 1.0)
    shift, scale = mean * unit, std * unit
    return (image_BCHW.to(mean.dtype) - shift[:, None, None]) / scale[:, None, None]
