"""Image normalisation: scaling by the range of the dtype, then by mean and standard deviation."""

import torch
from torch import Tensor

from pyramidseg.base.errors import DataError
from pyramidseg.images.value_range import UNITS

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

INTEGER_RANGES: dict[torch.dtype, float] = {getattr(torch, name): unit for name, unit in UNITS.items()}
"""Unsigned integer images are scaled by the range of their dtype; floats and signed integers are not scaled."""


def normalize(image_BCHW: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, C, H, W) of any dtype to zero mean and unit deviation, in the dtype of `mean`.

    Args:
        mean, std: (C,) in units of the type's range for unsigned integers, in raw units for all others.

    Raises:
        DataError: a type whose range is unknown, such as int64.
    """
    if image_BCHW.dtype not in (*INTEGER_RANGES, torch.int16, *FLOATS):
        raise DataError(
            f"images of {str(image_BCHW.dtype).removeprefix('torch.')}, whose range is unknown: convert values of 0 to "
            "255 to uint8 (images.to(torch.uint8)), and shares of 1 to float32"
        )
    unit = INTEGER_RANGES.get(image_BCHW.dtype, 1.0)
    # At least in float32: half precision ends at 65504, and has not enough digits for 16 bits.
    dtype = torch.promote_types(mean.dtype, torch.float32)
    shift, scale = mean.to(dtype) * unit, std.to(dtype) * unit
    return ((image_BCHW.to(dtype) - shift[:, None, None]) / scale[:, None, None]).to(mean.dtype)
