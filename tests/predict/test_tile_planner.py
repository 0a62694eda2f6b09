import copy

import numpy as np
import pytest
import torch

from made_backends import Brightness
from pyramidseg.backends import TorchBackend
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import ConfigError, DeviceError, OutOfMemory
from pyramidseg.predict import tile_planner
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import segment_batch
from pyramidseg.predict.tile_planner import (
    USABLE_SHARE,
    TilePlanner,
    bytes_per_pixel,
    default_overlap,
    margin_within,
    receptive_field_px,
)
from pyramidseg.predict.tiling import GRID_PX, Tiles, windows_along
from pyramidseg.predict.tta import TestTimeAugmentation
from support import tiny_segmenter


@pytest.fixture
def free(monkeypatch):
    def set_free(count):
        monkeypatch.setattr(tile_planner, "free_bytes", lambda device: count)

    return set_free


@pytest.fixture(scope="module")
def backend():
    return TorchBackend(tiny_segmenter(coarsest_stride=8, pyramid_channels=16), device="cpu")


def test_the_cache_of_a_scene_takes_its_share_of_the_memory(backend, free):
    free(2**31)
    planner = TilePlanner(backend)
    alone = planner.plan_windows(9000, 8192, most_px=2**13).tile_px
    assert alone > planner.plan_windows(9000, 8192, most_px=2**13, cache_bytes=lambda side_px: 2**16 * side_px).tile_px
    with pytest.raises(OutOfMemory, match=r"need 1\d{3} MiB, and 1024 MiB are usable"):
        planner.plan_windows(9000, 8192, cache_bytes=lambda side_px: 2**30)


def test_an_image_that_fits_is_predicted_whole(backend, free):
    free(2**40)
    assert TilePlanner(backend).plan(9000, 7000) is None


def test_otherwise_the_largest_tile_that_fits_is_chosen(backend, free):
    free(2**30)
    planner = TilePlanner(backend)
    tiles = planner.plan(9000, 7000)
    usable = USABLE_SHARE * 2**30
    assert tiles.tile_px < 9000
    assert planner.needed_bytes(tiles.tile_px, 9000, 7000) <= usable
    assert planner.needed_bytes(tiles.tile_px + GRID_PX, 9000, 7000) > usable


def test_less_memory_gives_smaller_tiles_and_too_little_an_error_with_figures(backend, free):
    sides = []
    for mib in (2048, 1024, 512):
        free(mib * 2**20)
        sides.append(TilePlanner(backend).plan(9000, 7000).tile_px)
    assert sides == sorted(sides, reverse=True) and len(set(sides)) == 3
    free(2**20)
    with pytest.raises(DeviceError, match=r"9000x7000: even tiles of 256 pixels need \d+ MiB, and 0 MiB are usable"):
        TilePlanner(backend).plan(9000, 7000)


def test_small_images_do_not_query_the_memory(backend, free):
    free(0)
    assert TilePlanner(backend).plan(1024, 2048) is None


def test_tile_px_whole_never_uses_tiles(backend, free):
    free(0)
    assert TilePlanner(backend, tile_px="whole").plan(9000, 9000) is None


def test_a_given_tile_size_divides_every_larger_image(backend):
    planner = TilePlanner(backend, tile_px=512, overlap_px=64)
    assert planner.plan(512, 512) is None
    assert planner.plan(512, 513) == Tiles(512, 64, planner.plan(512, 513).margin_px)


def test_the_margin_is_the_receptive_field_if_the_overlap_has_room_for_it():
    assert margin_within(128, 64) == 64
    assert margin_within(128, 10) == 10
    assert margin_within(128, 65) == 48
    assert margin_within(128, None) == 0


def test_the_receptive_field_of_a_network_becomes_the_margin(backend):
    margins = [TilePlanner(backend, tile_px=1024, overlap_px=px).plan(2000, 2000).margin_px for px in (512, 256, 32)]
    assert margins[0] == margins[1] == receptive_field_px(backend.settings)
    assert margins[2] == 12


def test_by_default_tiles_are_exact_where_that_is_cheap():
    assert default_overlap(2048, 100) == 224
    assert default_overlap(2048, 300) == 256  # 600 would be more than a quarter
    assert default_overlap(2048, None) == 256
    assert default_overlap(64, None) == 32


def test_views_at_several_scales_need_more_memory(backend, free):
    free(2**30)
    plain, augmented = TilePlanner(backend), TilePlanner(TestTimeAugmentation(backend))
    assert augmented.needed_bytes(1024, 9000, 9000) > plain.needed_bytes(1024, 9000, 9000)
    assert augmented.plan(9000, 9000).margin_px == 0


def test_a_custom_backend_can_be_tiled(free):
    free(2**28)
    tiles = TilePlanner(Brightness()).plan(9000, 9000)
    assert tiles.tile_px >= 256 and tiles.margin_px == 0


@pytest.mark.parametrize(("compute_device", "measured"), [("cuda:1", "cuda:1"), (None, "cpu")])
def test_the_memory_of_the_computing_device_decides_or_else_that_of_the_machine(
    backend, monkeypatch, compute_device, measured
):
    elsewhere = copy.copy(backend)
    elsewhere.compute_device = compute_device and torch.device(compute_device)
    assert elsewhere.device == torch.device("cpu")
    queried = []
    monkeypatch.setattr(tile_planner, "free_bytes", lambda device: queried.append(device) or 2**40)
    assert TilePlanner(elsewhere).plan(9000, 7000) is None
    assert queried == [torch.device(measured)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_its_own_memory_counts(backend):
    on_gpu = TorchBackend(backend.model, device="cuda")
    assert TilePlanner(on_gpu).plan(2048, 2048) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_px": "large"}, "`tile_px=large`: must be auto, whole, or a number"),
        ({"tile_px": 500}, "tile_px=500"),
        ({"overlap_px": 50}, "overlap_px=50"),
        ({"tile_px": 128, "overlap_px": 96}, "at most half"),
    ],
)
def test_impossible_tiles_are_rejected_at_once(backend, options, message):
    with pytest.raises(ConfigError, match=message):
        TilePlanner(backend, **options)


def test_memory_grows_with_the_channels_and_covers_the_maps_kept_for_the_merge():
    narrow, wide = (
        bytes_per_pixel(
            ModelConfig(
                encoder="test_resnet",
                encoder_weights="none",
                pyramid_channels=width,
                segmentation_channels=width,
            ),
            5,
        )
        for width in (32, 128)
    )
    # At the merge, at least two maps of 128 channels are alive at stride 4, in float32.
    assert wide > 2 * 128 * 4 / 4**2
    assert wide > narrow > 3 * 4  # the normalised image alone


def test_the_peak_counts_what_is_alive_at_the_same_time():
    with tile_planner.LiveBytes() as live:
        first = torch.empty(100, device="meta")
        second = first.view(10, 10) + 1  # a view allocates nothing
        del first
        third = second.double()
        del second
        third.add_(1)
    assert live.peak == 4 * 100 + 8 * 100
    assert live.live == 8 * 100


def test_an_image_whose_tiles_do_not_fit_is_an_error_of_this_image_only(backend, free):
    predictor = Predictor(backend)
    free(2**20)
    large, small = np.zeros((1500, 1500, 3), np.uint8), np.zeros((40, 50, 3), np.uint8)
    results = list(predictor.predict_results([small, large, small], batch_size=1))
    assert [result.error is None for result in results] == [True, False, True]
    assert "image: an image of 1500x1500: even tiles of 256 pixels need" in str(results[1].error)


@pytest.mark.parametrize("stage", ["model", "label map"])
def test_memory_that_runs_out_on_one_image_is_an_error_of_this_image_only(backend, free, monkeypatch, stage):
    predictor = Predictor(backend)

    def limited(function):
        def call(*arguments, **keywords):
            if 90 in (*arguments[0].shape, *arguments[1:3]):
                raise MemoryError
            return function(*arguments, **keywords)

        return call

    if stage == "model":
        monkeypatch.setattr(backend.model, "normalize", limited(backend.model.normalize))
    else:
        monkeypatch.setattr("pyramidseg.predict.predictor.segment_batch", limited(segment_batch))
    images = [np.zeros((height, 70, 3), np.uint8) for height in (40, 90, 40)]
    results = list(predictor.predict_results(images, batch_size=1))
    assert [result.error is None for result in results] == [True, False, True]
    assert "image: out of memory: use smaller images" in str(results[1].error)


def test_windows_of_a_narrow_image_take_memory_in_proportion_to_its_length():
    windows = windows_along(2_000_000, Tiles(512, 128, 64), stride=4, padding_px=32)
    total = np.zeros(500_000)
    for window in windows:
        total[window.points] += window.weights
    assert len(windows) == 5208 and np.allclose(total, 1, atol=1e-12)
