"""Folding of batch norms into the preceding convolutions, for faster inference with equal outputs.

In evaluation a batch norm is a scale and a shift of every channel, and so is what a convolution's weights and bias can
do (Jacob et al. 2018, arXiv 1712.05877, section 3.2). Group norm depends on the image and stays.
"""

from collections import Counter
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
NORMS = (nn.BatchNorm2d, BatchNormAct2d)
"""Exact types: a subclass may compute something else from its weights (weight standardisation, quantisation)."""


def fold_batch_norm(model: nn.Module, example: Tensor) -> int:
    """Fold every batch norm of `model` that directly follows a convolution, in place; evaluation mode only.

    One forward pass shows which convolution feeds which norm, in any network. A pair is folded if only the norm reads
    the convolution's output.

    Args:
        example: any input of the model; it may be tiny.

    Returns:
        Number of norms folded.
    """
    assert not model.training, "in training mode a batch norm is no linear function"
    pairs = _pairs(model, example)
    for conv, norm in pairs:
        _fold(conv, norm)
    what_is_left = {norm: _without_norm(norm) for _, norm in pairs}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and child in what_is_left:
                setattr(parent, name, what_is_left[child])
    return len(pairs)


def _without_norm(norm: nn.BatchNorm2d) -> nn.Module:
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


class _Readers(TorchFunctionMode):
    """Counts by id how many operations read each tensor, and keeps the tensors, so that no id is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self.kept: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):  # not the questions: .shape, .dim()
            operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.count.update(id(operand) for operand in operands)
            self.kept += operands
        return result


def _pairs(model: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions with the norms that alone read them, both called exactly once."""
    source: dict[int, nn.Conv2d] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d, int]] = []
    calls: Counter[nn.Module] = Counter()

    def watch_conv(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        calls[conv] += 1
        source[id(output)] = conv
        readers.kept.append(output)

    def watch_norm(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        calls[norm] += 1
        if (conv := source.get(id(inputs[0]))) is not None:
            pairs.append((conv, norm, id(inputs[0])))

    hooks = [
        module.register_forward_hook(watch_conv)
        if type(module) in CONVOLUTIONS
        else module.register_forward_pre_hook(watch_norm)
        for module in model.modules()
        if type(module) in CONVOLUTIONS or (type(module) in NORMS and getattr(module, "running_var", None) is not None)
    ]
    try:
        with torch.no_grad(), _Readers() as readers:
            results = tree_leaves(model(example))
    finally:
        for hook in hooks:
            hook.remove()
    returned = {id(result) for result in results}
    return [
        (conv, norm)
        for conv, norm, read in pairs
        if calls[conv] == calls[norm] == 1 and readers.count[read] == 1 and read not in returned
    ]


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Scale the weights and move the bias of a convolution by what the norm does; computed in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    bias = -norm.running_mean.double()
    if conv.bias is not None:
        bias = bias + conv.bias.double()
    bias = bias * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    dtype = conv.weight.dtype
    conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
