"""Prepare a trained model for prediction: fewer operations with equal outputs, optionally in a lower precision.

Batch norms are folded, linear layers of the decoder are composed (`model.reassociation`), and padding is made static.

In evaluation mode a batch norm scales and shifts every channel, which the weights and bias of the preceding convolution
can do as well (Jacob et al. 2018, arXiv 1712.05877, section 3.2). Group norm depends on the image and stays.
"""

import copy
from collections import Counter
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from pyramidseg.model.reassociation import reassociate
from pyramidseg.model.segmenter import Segmenter

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
NORMS = (nn.BatchNorm2d, BatchNormAct2d)
"""Exact types: a subclass may compute something else from its weights (weight standardisation, quantisation)."""


def inference_copy(
    segmenter: Segmenter, *, dtype: torch.dtype | None = None, as_written: bool = False, for_graph: bool = False
) -> Segmenter:
    """Copy a model for prediction: equal outputs in evaluation mode, fewer operations; not for training or saving.

    The original is not changed.

    Args:
        dtype: of encoder, decoder, classifier and coarse logits; None keeps it. Images are always normalised in the
            original's dtype, because bf16 would lose the precision of 16-bit images.
        as_written: keep the layers of the decoder, instead of composing them (`model.reassociation`).
        for_graph: whether the copy will be traced.
    """
    model = copy.deepcopy(segmenter).eval().requires_grad_(False)
    stride = model.settings.coarsest_stride
    fold_batch_norm(model, model.mean.new_zeros(1, model.settings.in_channels, stride, stride))
    make_padding_static(model.encoder)
    if not as_written:
        model.decoder = reassociate(model.decoder, for_graph=for_graph)  # type: ignore[assignment]
    if dtype is not None and dtype != model.mean.dtype:
        for part in (model.encoder, model.decoder, model.classifier):
            part.to(dtype)
        model.encoder.register_forward_pre_hook(_Cast(dtype))
    return model.train(False)


def logits_of_padded(model: Segmenter, image_BCHW: Tensor) -> Tensor:
    """Coarse logits of normalised images whose sides are multiples of the coarsest stride."""
    logits: Tensor = model.classifier(model.decoder(model.encoder(image_BCHW)))
    return logits


class _Cast:
    """A forward pre-hook that converts the input to a dtype. A class, so that models with it can be pickled."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].to(self.dtype),)


def fold_batch_norm(model: nn.Module, example: Tensor) -> int:
    """Fold every batch norm of `model` that directly follows a convolution, in place; evaluation mode only.

    One forward pass shows which convolution feeds which norm, in any network. A pair is folded if only the norm reads
    the convolution's output.

    Args:
        example: any input of the model; it may be tiny.

    Returns:
        Number of norms folded.
    """
    assert not model.training, "in training mode a batch norm is not a linear function"
    pairs = _foldable_pairs(model, example)
    for conv, norm in pairs:
        _fold(conv, norm)
    remainder = {norm: _without_norm(norm) for _, norm in pairs}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and child in remainder:
                setattr(parent, name, remainder[child])
    return len(pairs)


def _without_norm(norm: nn.BatchNorm2d) -> nn.Module:
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


class _Readers(TorchFunctionMode):
    """Counts the operations that read each tensor, by id; keeps the tensors alive, so that ids stay unique."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self.kept: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):  # not queries such as .shape and .dim()
            operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self.count.update(id(operand) for operand in operands)
            self.kept += operands
        return result


def _foldable_pairs(model: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions and the norms that are the only readers of their output, both called exactly once."""
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
    """Scale the weights and move the bias of a convolution as the norm would; computed in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    mean, variance, dtype = norm.running_mean.double(), norm.running_var.double(), conv.weight.dtype
    own, scale, shift = (None if it is None else it.double() for it in (conv.bias, norm.weight, norm.bias))
    weight, bias = fuse_conv_bn_weights(conv.weight.double(), own, mean, variance, norm.eps, scale, shift)
    conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def make_padding_static(model: nn.Module) -> int:
    """Replace every convolution with TensorFlow's "same" padding by one with constant padding, in place.

    "same" padding depends on the size of the input, unless the stride divides it: then it is always (kernel - 1) *
    dilation + 1 - stride. A `Segmenter` pads its images so that this holds in all layers. Without the formulas for the
    sizes, such networks are traced in seconds.

    Returns:
        Number of convolutions replaced.
    """
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is Conv2dSame:
                setattr(parent, name, _static(child))
                count += 1
    return count


def _static(conv: Conv2dSame) -> nn.Sequential:
    (height, width), (rows, columns), (down, across) = conv.kernel_size, conv.dilation, conv.stride
    vertical = max(0, (height - 1) * rows + 1 - down)
    horizontal = max(0, (width - 1) * columns + 1 - across)
    # As TensorFlow: if the amount is odd, one more below and to the right.
    pad = nn.ZeroPad2d((horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2))
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (height, width),
        stride=(down, across),
        dilation=(rows, columns),
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    return nn.Sequential(pad, plain)
