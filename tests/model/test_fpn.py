import pytest
import torch
from torch import nn

from pyramidseg.model.fpn import FPNDecoder, Pyramid, SpatialDropout

CHANNELS, STRIDES = (24, 40, 64, 80), (4, 8, 16, 32)


def maps_of(channels=CHANNELS, strides=STRIDES, size=64):
    return [
        torch.rand(2, count, size // stride, size // stride) for count, stride in zip(channels, strides, strict=True)
    ]


def test_top_down_path_equals_a_loop_over_pixels():
    torch.manual_seed(0)
    pyramid = Pyramid((3, 5), channels=2, smoothing=False).double()
    fine, coarse = torch.rand(1, 3, 4, 6).double(), torch.rand(1, 5, 2, 3).double()
    merged, top = pyramid([fine, coarse])
    for channel in range(2):
        for row in range(4):
            for column in range(6):
                lateral = pyramid.lateral[0].weight[channel, :, 0, 0] @ fine[0, :, row, column]
                above = pyramid.lateral[1].weight[channel, :, 0, 0] @ coarse[0, :, row // 2, column // 2]
                torch.testing.assert_close(merged[0, channel, row, column], lateral + above)
                torch.testing.assert_close(top[0, channel, row // 2, column // 2], above)


def test_smoothing_can_be_left_out():
    pyramid = Pyramid(CHANNELS, channels=8, smoothing=False)
    maps = maps_of()
    for smoothed, merged in zip(pyramid(maps), pyramid.merge(maps), strict=True):
        assert torch.equal(smoothed, merged)


def test_add_is_the_sum_of_what_concat_lists():
    settings = {"pyramid_channels": 8, "segmentation_channels": 4}
    add = FPNDecoder(CHANNELS, STRIDES, merge="add", **settings).eval()
    concat = FPNDecoder(CHANNELS, STRIDES, merge="concat", **settings).eval()
    concat.load_state_dict(add.state_dict())
    maps = maps_of()
    with torch.inference_mode():
        torch.testing.assert_close(concat(maps).unflatten(1, (4, 4)).sum(1), add(maps))
    assert (add.channels, concat.channels) == (4, 16)


def test_branches_double_until_the_finest_stride():
    decoder = FPNDecoder(CHANNELS, STRIDES, pyramid_channels=8, segmentation_channels=4)
    assert [len(branch) for branch in decoder.branches] == [1, 1, 2, 3]
    assert [block.upsample for branch in decoder.branches for block in branch] == [False, *[True] * 6]


def test_initialisation_is_as_the_header_states():
    torch.manual_seed(0)
    decoder = FPNDecoder(CHANNELS, STRIDES, pyramid_channels=128, segmentation_channels=64)
    for conv in [*decoder.pyramid.lateral, *decoder.pyramid.smoothing]:
        fan_in = conv.weight[0].numel()
        bound = (3 / fan_in) ** 0.5
        assert conv.weight.abs().max() <= bound
        assert conv.weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.05)
        assert not conv.bias.any()
    for block in (block for branch in decoder.branches for block in branch):
        assert block.conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
        assert block.conv.bias is None
        assert (block.norm.weight == 1).all() and not block.norm.bias.any()


class TestSpatialDropout:
    def test_drops_whole_maps_and_scales_the_others_exactly(self):
        torch.manual_seed(0)
        maps = torch.rand(8, 50, 5, 7) + 1
        dropped = SpatialDropout(0.3)(maps)
        kept = dropped.flatten(2).any(dim=2)
        assert 0 < kept.sum() < kept.numel()
        assert torch.equal(dropped[kept], maps[kept] * torch.tensor(1 / 0.7))
        assert not dropped[~kept].any()

    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.7])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_drops_at_its_rate(self, rate, dtype):
        torch.manual_seed(0)
        count = 200_000
        dropped = SpatialDropout(rate)(torch.ones(100, count // 100, 1, 1, dtype=dtype))
        share = (dropped == 0).float().mean().item()
        assert abs(share - rate) < 4 * (rate * (1 - rate) / count) ** 0.5

    def test_is_drawn_for_each_map_of_each_sample(self):
        torch.manual_seed(0)
        kept = SpatialDropout(0.5)(torch.ones(64, 64, 1, 1)).bool().squeeze()
        assert len({tuple(row.tolist()) for row in kept}) == 64
        assert len({tuple(column.tolist()) for column in kept.T}) == 64

    def test_is_the_identity_in_evaluation(self):
        maps = torch.rand(2, 3, 4, 4)
        assert SpatialDropout(0.9).eval()(maps) is maps

    def test_repeats_from_the_same_seed(self):
        maps = torch.rand(4, 16, 2, 2)
        results = []
        for _ in range(2):
            torch.manual_seed(7)
            results.append(SpatialDropout(0.5)(maps))
        assert torch.equal(*results)

    def test_agrees_with_torchs_own_in_distribution(self):
        torch.manual_seed(0)
        ones = torch.ones(400, 400, 1, 1)
        ours, theirs = SpatialDropout(0.4)(ones), nn.Dropout2d(0.4)(ones)
        assert ours.unique().tolist() == pytest.approx(theirs.unique().tolist())
        assert ours.mean().item() == pytest.approx(theirs.mean().item(), abs=0.02)
