import torch

from pyramidseg.base.config import ModelConfig
from pyramidseg.predict import tile_planner as memory
from pyramidseg.predict.tile_planner import bytes_per_pixel, skeleton

SMALL = {"encoder": "test_resnet", "encoder_weights": "none"}


def test_the_need_grows_with_the_channels_and_covers_every_map_that_is_kept():
    narrow, wide = (
        bytes_per_pixel(skeleton(ModelConfig(**SMALL, pyramid_channels=width, segmentation_channels=width), 5))
        for width in (32, 128)
    )
    # At the merge, at least two maps of 128 channels are alive at stride 4, in float32.
    assert wide > 2 * 128 * 4 / 4**2
    assert wide > narrow > 3 * 4  # the normalised image alone


def test_the_peak_counts_what_is_alive_at_a_time():
    with memory._LiveBytes() as live:
        first = torch.empty(100, device="meta")
        second = first.view(10, 10) + 1  # a view is no memory of its own
        del first
        third = second.double()
        del second
        third.add_(1)
    assert live.peak == 4 * 100 + 8 * 100
    assert live.live == 8 * 100
