"""Gradients of finely grouped convolutions in 16 bits on a CPU: computed in float32, and no other call changed."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyramidseg.base.device import autocast
from pyramidseg.training.grouped_convolutions import fast_grouped_gradients

CPU = torch.device("cpu")


def gradients(output: Tensor, inputs: Sequence[Tensor], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.autograd.grad(output, inputs, torch.randn(output.shape, generator=generator).to(output)))


@pytest.mark.parametrize("groups", [12, 3], ids=["depthwise", "four channels a group"])
@pytest.mark.parametrize(
    "where",
    [
        {"kernel": 3, "padding": 1},
        {"kernel": 5, "stride": 2, "padding": (2, 1)},
        {"kernel": 3, "stride": (2, 1), "dilation": 2},
        {"kernel": 7, "padding": [3]},
    ],
    ids=str,
)
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_float64_to_the_precision_of_their_inputs(
    where: dict[str, Any], groups: int, bias: bool
) -> None:
    kernel, options = where["kernel"], {name: value for name, value in where.items() if name != "kernel"}
    image = torch.randn(2, 12, 17, 14).bfloat16().requires_grad_()
    weight = torch.randn(24, 12 // groups, kernel, kernel).bfloat16().float().requires_grad_()
    given = [image, weight, *([torch.randn(24).bfloat16().float().requires_grad_()] if bias else [])]
    with autocast("bf16", CPU), fast_grouped_gradients("bf16", CPU):
        output = F.conv2d(*given, groups=groups, **options)
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    expected = gradients(F.conv2d(*exact, groups=groups, **options), exact)
    for got, wanted, source in zip(gradients(output, given), expected, given, strict=True):
        assert got.dtype == source.dtype
        assert torch.equal(got, wanted.to(got.dtype)) or (got.double() - wanted).norm() < 5e-3 * wanted.norm()


def test_the_forward_pass_has_the_bits_of_autocast() -> None:
    image, convolution = torch.randn(2, 8, 9, 9), nn.Conv2d(8, 8, 3, groups=8)
    with autocast("bf16", CPU):
        plain = convolution(image)
        with fast_grouped_gradients("bf16", CPU):
            fast = convolution(image)
    assert fast.dtype == torch.bfloat16 and torch.equal(plain, fast)


@pytest.mark.parametrize(
    ("convolution", "changed"),
    [
        (nn.Conv2d(16, 16, 3, groups=16), True),
        (nn.Conv2d(16, 32, 3, groups=2), True),
        (nn.Conv2d(32, 32, 3, groups=2), False),
        (nn.Conv2d(16, 16, 3), False),
        (nn.Conv2d(16, 16, 3, groups=16, padding="same"), False),
    ],
    ids=["depthwise", "8 channels a group", "16 channels a group", "dense", "padding by name"],
)
def test_only_fine_groups_are_computed_another_way(convolution: nn.Conv2d, changed: bool) -> None:
    image = torch.randn(1, convolution.in_channels, 8, 8)
    with autocast("bf16", CPU), fast_grouped_gradients("bf16", CPU):
        assert ("GroupedConvolution" in type(convolution(image).grad_fn).__name__) == changed


@pytest.mark.parametrize(("precision", "device"), [("fp32", "cpu"), ("fp64", "cpu"), ("bf16", "cuda")])
def test_other_precisions_and_devices_are_left_alone(precision: Any, device: str) -> None:
    with fast_grouped_gradients(precision, torch.device(device)):
        output = F.conv2d(torch.randn(1, 4, 5, 5), torch.randn(4, 1, 3, 3, requires_grad=True), groups=4)
    assert type(output.grad_fn).__name__ == "ConvolutionBackward0"


def test_parts_without_autocast_stay_in_float32() -> None:
    convolution = nn.Conv2d(16, 16, 3, groups=16)
    with autocast("bf16", CPU), fast_grouped_gradients("bf16", CPU), torch.autocast("cpu", enabled=False):
        output = convolution(torch.randn(1, 16, 8, 8))
    assert output.dtype == torch.float32 and type(output.grad_fn).__name__ == "ConvolutionBackward0"
