import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pyramidseg.base.device import has_fast_bf16
from pyramidseg.studies.roofline import Convolution, Roofline, measure_roofline

CPU = torch.device("cpu")


@pytest.mark.parametrize("layer", [Convolution(2, 8, 10, 3), Convolution(1, 4, 6, 1)])
def test_operations_are_those_that_torch_counts(layer):
    network = nn.Conv2d(layer.channels, layer.channels, layer.kernel, padding=layer.kernel // 2, bias=False)
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(layer.batch, layer.channels, layer.side_px, layer.side_px))
    assert layer.flop == counter.get_total_flops()


def test_a_multiply_accumulate_is_two_operations():
    roofline = Roofline({"fp32": 400e9, "bf16": 800e9})
    assert roofline.floor_seconds(20_000_000_000, "fp32") == pytest.approx(0.1)
    assert roofline.share(20_000_000_000, "fp32", 0.125) == pytest.approx(0.8)
    assert roofline.share(20_000_000_000, "bf16", 0.125) == pytest.approx(0.4)


def test_a_precision_that_was_not_measured_has_no_floor():
    roofline = Roofline({"fp32": 400e9})
    assert roofline.floor_seconds(1, "fp16") is None
    assert roofline.share(1, "fp16", 1.0) is None


def test_the_best_layer_counts_in_every_precision_that_the_device_has():
    layers = (Convolution(1, 8, 8, 1), Convolution(1, 64, 32, 3))
    both = measure_roofline(CPU, rounds=3, layers=layers)
    assert set(both.flop_per_second) == ({"fp32", "bf16"} if has_fast_bf16(CPU) else {"fp32"})
    assert all(rate > 0 for rate in both.flop_per_second.values())
    assert str(both).startswith("convolution alone reaches ")
