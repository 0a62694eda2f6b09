"""Gradients of depthwise and other finely grouped convolutions in float32, on CPUs that train in 16 bits.

oneDNN has no fast kernels in bfloat16 for these gradients: for the depthwise convolutions of an EfficientNet they take
up to a hundred times as long as in float32 (docs/training.md). The forward pass, which is fast, stays in 16 bits.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from pyramidseg.base.device import Precision

WIDEST = 8
"""Channels a group; with more of them, 16 bits are faster in the backward pass too."""

Pair = int | Sequence[int]


def fast_grouped_gradients(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within it, `conv2d` computes the gradients of finely grouped convolutions in float32.

    No effect except in 16 bits on a CPU. `torch.compile` ignores it.
    """
    if device.type == "cpu" and precision in {"bf16", "fp16"}:
        return _GroupedConvolutions(torch.bfloat16 if precision == "bf16" else torch.float16)
    return nullcontext()


class _GroupedConvolutions(TorchFunctionMode):
    """Passes finely grouped calls of `conv2d` on to `_GroupedConvolution`."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.conv2d and not torch.compiler.is_compiling():
            return self._conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _conv2d(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Pair = 1,
        padding: Pair | str = 0,
        dilation: Pair = 1,
        groups: int = 1,
    ) -> Tensor:
        is_fine = groups > 1 and weight.shape[1] <= WIDEST and input.ndim == 4
        is_autocast = torch.is_autocast_enabled("cpu")  # timm switches it off for parts of some networks
        if not (is_fine and is_autocast) or isinstance(padding, str):
            return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        where = _pair(stride), _pair(padding), _pair(dilation), groups
        output: Tensor = _GroupedConvolution.apply(input.to(self.dtype), weight, bias, *where)
        return output


class _GroupedConvolution(torch.autograd.Function):
    """`conv2d` in the type of its input, whose gradients are computed in float32."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, *where: Any) -> Tensor:
        """(B, C, H, W) and (K, C / groups, h, w) to (B, K, H', W'), with stride, padding, dilation and groups."""
        ctx.save_for_backward(image, weight)
        ctx.bias_size, ctx.where = None if bias is None else list(bias.shape), where
        same = image.dtype
        return F.conv2d(image, weight.to(same), None if bias is None else bias.to(same), *ctx.where)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of image, weight and bias, in their types."""
        image, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.where
        needed = list(ctx.needs_input_grad[:3])
        values = [tensor.float() for tensor in (gradient, image, weight)]
        gradients = torch.ops.aten.convolution_backward(
            *values, ctx.bias_size, stride, padding, dilation, False, [0, 0], groups, needed
        )
        types = image.dtype, weight.dtype, weight.dtype
        typed = [None if part is None else part.to(kind) for part, kind in zip(gradients, types, strict=True)]
        return (*typed, None, None, None, None)


def _pair(value: Pair) -> list[int]:
    """Of two axes, from one value for both or from two."""
    return [value, value] if isinstance(value, int) else list(value) * (2 // len(value))
