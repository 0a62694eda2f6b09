import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pyramidseg.model.cost import describe_cost
from pyramidseg.model.segmenter import Segmenter


def build(encoder="resnet18", **settings):
    return Segmenter(num_classes=11, encoder=encoder, encoder_weights="none", **settings)


def rows(model, height=64, width=96):
    return {part.name: part for part in describe_cost(model, height, width).parts}


def test_decoder_parts_equal_a_calculation_by_hand():
    parts = rows(build())
    for stride, channels in zip((4, 8, 16, 32), (64, 128, 256, 512), strict=True):
        pixels = 64 // stride * 96 // stride
        assert parts[f"lateral, stride {stride}"].macs == pixels * channels * 256
        assert parts[f"smoothing, stride {stride}"].macs == pixels * 9 * 256 * 256
    assert parts["semantic branch, stride 4"].macs == 16 * 24 * 9 * 256 * 128
    # 256 to 128 channels at stride 32, then 128 to 128 at 16 and at 8.
    assert parts["semantic branch, stride 32"].macs == 9 * 128 * (2 * 3 * 256 + 4 * 6 * 128 + 8 * 12 * 128)
    assert parts["classifier"].macs == 16 * 24 * 128 * 11


def test_encoder_parts_equal_a_calculation_by_hand():
    parts = rows(build())
    stem, block = 32 * 48 * 49 * 3 * 64, 16 * 24 * 9 * 64 * 64
    assert parts["encoder, stride 4"].macs == stem + 4 * block
    first, other, shortcut = 8 * 12 * 9 * 64 * 128, 8 * 12 * 9 * 128 * 128, 8 * 12 * 64 * 128
    assert parts["encoder, stride 8"].macs == first + 3 * other + shortcut
    assert parts["encoder, stride 8"].shape == (128, 8, 12)


def test_attention_equals_a_calculation_by_hand():
    model = build("pvt_v2_b0").eval()
    layers = []
    for module in model.encoder.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda own, _, out: layers.append(out.numel() * own.weight[0].numel()))
    with torch.inference_mode():
        model.encoder(torch.rand(1, 3, 64, 96))
    # Two blocks a stage; in each every pixel looks at 2x3 others, once for the weights and once for the values.
    attention = sum(2 * 2 * (64 // s) * (96 // s) * 6 * c for s, c in ((4, 32), (8, 64), (16, 160), (32, 256)))
    parts = [part.macs for name, part in rows(build("pvt_v2_b0")).items() if name.startswith("encoder")]
    assert sum(parts) == sum(layers) + attention


@pytest.mark.parametrize("encoder", ["resnet18", "test_efficientnet", "test_convnext", "test_maxvit"])
def test_totals_equal_torchs_counter_and_the_models_parameters(encoder):
    model = build(encoder, image_head=True).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.logits_with_image_logits(torch.rand(1, 3, 64, 96))
    cost = describe_cost(model, 64, 96)
    assert 2 * cost.macs == counter.get_total_flops()
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert len([part for part in cost.parts if part.name.startswith("encoder, stride")]) == 4


def test_the_decoder_costs_what_the_design_says():
    decoder = []
    for smoothing in (True, False):
        parts = describe_cost(build(smoothing=smoothing), 384, 480).parts
        decoder.append(sum(part.gmac for part in parts if not part.name.startswith("encoder")))
    assert decoder == [pytest.approx(14.9, abs=0.05), pytest.approx(5.8, abs=0.05)]


def test_only_what_is_there_is_listed():
    names = list(rows(build(smoothing=False, coarsest_stride=16, finest_stride=2, pyramid_channels=8)))
    assert not [name for name in names if "smoothing" in name or "32" in name or "head" in name]
    assert [name for name in names if name.startswith("encoder")] == [f"encoder, stride {s}" for s in (2, 4, 8, 16)]


def test_the_model_is_left_alone():
    model = build("test_resnet").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    describe_cost(model, 40, 33)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
