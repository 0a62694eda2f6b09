"""Images to what networks expect: scaled by their type's range, then by mean and standard deviation."""

import torch
from torch import Tensor

INTEGER_RANGES: dict[torch.dtype, float] = {torch.uint8: 255.0, torch.uint16: 65535.0}
"""Integer images are scaled by their type's range; floats and signed integers are taken as they are."""


def normalize(image_BCHW: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) of any dtype to zero mean and unit deviation, in the dtype of `mean`.

    Args:
        mean, std: (C,) in units of the type's range for unsigned integers, in raw units for all others.
    """
    unit = INTEGER_RANGES.get(image_BCHW.dtype, 1.0)
    shift, scale = mean * unit, std * unit
    return (image_BCHW.to(mean.dtype) - shift[:, None, None]) / scale[:, None, None]
