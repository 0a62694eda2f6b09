"""Composed decoders: equal in float64 to the layers as written, for every form, size and border."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pyramidseg as ps
from pyramidseg.model.composed_convolutions import PhasedTerm, TransposedTerm, compose, graph_term, upsampled_kernel
from pyramidseg.model.fpn import FPNDecoder
from pyramidseg.model.inference import inference_copy
from pyramidseg.model.reassociation import ReassociatedDecoder, cheapest_form, decoder_forms, reassociate

PYRAMID, SEGMENTATION = 8, 32


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def decoder_of(
    channels: list[int], *, smoothing: bool, norm: str, merge: str, seed: int, finest: int = 4
) -> FPNDecoder:
    """A decoder in float64 with random weights, biases and statistics, its batch norms folded."""
    decoder = FPNDecoder(
        channels,
        [finest * 2**level for level in range(len(channels))],
        pyramid_channels=PYRAMID,
        segmentation_channels=SEGMENTATION,
        smoothing=smoothing,
        norm=norm,
        merge=merge,
    )
    decoder = decoder.double().eval().requires_grad_(False)
    for index, parameter in enumerate(decoder.parameters()):
        parameter.copy_(random(*parameter.shape, seed=seed + index) / parameter[0].numel() ** 0.5)
    if norm == "batch":
        for branch in decoder.branches:
            for layer in branch:
                layer.norm = nn.Identity()
                layer.conv.bias = nn.Parameter(random(SEGMENTATION, seed=seed), requires_grad=False)
    return decoder


def maps_of(channels: list[int], height: int, width: int, *, seed: int) -> list[torch.Tensor]:
    """Encoder maps whose coarsest one is (height, width)."""
    scales = [2 ** (len(channels) - 1 - level) for level in range(len(channels))]
    return [
        random(2, count, height * scale, width * scale, seed=seed + scale)
        for count, scale in zip(channels, scales, strict=True)
    ]


@given(
    channels=st.lists(st.sampled_from([1, 2, 3, 5, 9, 30]), min_size=2, max_size=4),
    smoothing=st.booleans(),
    norm=st.sampled_from(["batch", "group"]),
    merge=st.sampled_from(["add", "concat"]),
    finest=st.sampled_from([2, 4, 8]),
    for_graph=st.booleans(),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_outputs_are_those_of_the_layers_as_written(
    channels, smoothing, norm, merge, finest, for_graph, height, width, seed
):
    decoder = decoder_of(channels, smoothing=smoothing, norm=norm, merge=merge, seed=seed, finest=finest)
    maps = maps_of(channels, height, width, seed=seed)
    expected = decoder(maps)
    composed = ReassociatedDecoder(copy.deepcopy(decoder), for_graph=for_graph)
    torch.testing.assert_close(composed(maps), expected, rtol=1e-10, atol=1e-10)


def test_every_form_occurs():
    found = {
        (form.name, form.expanded)
        for channels in ([1, 3, 9], [5, 30], [30, 5, 3], [1, 9, 5, 30])
        for smoothing in (True, False)
        for form in decoder_forms(decoder_of(channels, smoothing=smoothing, norm="batch", merge="add", seed=0))
    }
    assert {name for name, _ in found} == {"as written", "lateral", "lateral and branch"}
    assert {expanded for _, expanded in found} >= {0, 1}


@given(outer=st.sampled_from([1, 3]), inner=st.sampled_from([1, 3]), size=st.integers(5, 8), seed=st.integers(0, 99))
@settings(deadline=None)
def test_convolutions_in_a_row_are_one(outer, inner, size, seed):
    first, second = random(4, 3, inner, inner, seed=seed), random(2, 4, outer, outer, seed=seed + 1)
    image = random(1, 3, size, size, seed=seed + 2)
    torch.testing.assert_close(F.conv2d(F.conv2d(image, first), second), F.conv2d(image, compose(second, first)))


@pytest.mark.parametrize("term", [TransposedTerm, PhasedTerm, graph_term])
@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (5, 1)])
def test_a_term_adds_the_convolution_of_the_upsampled_map(term, side, factor, height, width):
    kernel, level = random(6, 3, side, side, seed=1), random(2, 3, height, width, seed=2)
    output = random(2, 6, height * factor, width * factor, seed=3)
    upsampled = F.interpolate(level, scale_factor=float(factor), mode="nearest")
    expected = output + F.conv2d(upsampled, kernel, padding=side // 2)
    torch.testing.assert_close(term(kernel, factor)(output.clone(), level), expected)


def test_a_transposed_kernel_has_the_values_of_the_copies():
    kernel = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    spread = upsampled_kernel(kernel, 2)
    assert spread.shape == (1, 1, 4, 4)
    assert spread.sum() == 4 * kernel.sum()
    assert spread[0, 0, 0, 0] == kernel[0, 0, 2, 2]


@pytest.mark.parametrize(
    ("channels", "smoothing", "expected"),
    [
        ([64, 128, 256, 512], True, 483),  # ResNet-18: 901 as written
        ([24, 40, 112, 320], True, 254),  # EfficientNet-B0: 891
        ([256, 512, 1024, 2048], True, 950),  # ResNet-50: as written
        ([64, 128, 256, 512], False, 205),  # 311 as written
        ([24, 40, 112, 320], False, 122),
    ],
)
def test_multiplications_per_pixel_of_the_finest_level(channels, smoothing, expected):
    form = cheapest_form(channels, pyramid_channels=256, segmentation_channels=128, smoothing=smoothing)
    assert round(form.macs / 1000) == expected


def test_a_decoder_that_gains_nothing_is_left_as_it_is():
    decoder = FPNDecoder([256, 512, 1024, 2048], [4, 8, 16, 32]).eval()
    assert reassociate(decoder) is decoder


def test_bilinear_upsampling_is_left_as_it_is():
    decoder = FPNDecoder([8, 8, 8], [4, 8, 16], interpolation="bilinear").eval()
    assert reassociate(decoder) is decoder


@pytest.mark.parametrize("encoder", ["test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("size", [(1, 1), (33, 70), (96, 64)])
def test_predictions_are_those_of_the_model(encoder, size):
    model = ps.Segmenter(encoder=encoder, encoder_weights="none", num_classes=3).double().eval()
    image = random(2, 3, *size, seed=4)
    fast, written = inference_copy(model), inference_copy(model, as_written=True)
    assert isinstance(fast.decoder, ReassociatedDecoder)
    assert isinstance(written.decoder, FPNDecoder)
    with torch.no_grad():
        torch.testing.assert_close(fast(image), model(image), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(written(image), model(image), rtol=1e-10, atol=1e-10)
