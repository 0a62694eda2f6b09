import copy

import pytest
import torch

from made_backends import Brightness
from pyramidseg.backends import TorchBackend
from pyramidseg.base.errors import ConfigError, DeviceError
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict import tile_planner as tile_choice
from pyramidseg.predict.tile_planner import (
    USABLE_SHARE,
    TileChoice,
    default_overlap,
    margin_within,
    receptive_field_px,
    skeleton,
)
from pyramidseg.predict.tiling import GRID_PX, Tiles
from pyramidseg.predict.tta import TestTimeAugmentation


@pytest.fixture
def free(monkeypatch):
    def set_free(count):
        monkeypatch.setattr(tile_choice, "free_bytes", lambda device: count)

    return set_free


@pytest.fixture(scope="module")
def backend():
    model = Segmenter(
        num_classes=3,
        encoder="test_resnet",
        encoder_weights="none",
        coarsest_stride=8,
        pyramid_channels=16,
        segmentation_channels=32,
    )
    return TorchBackend(model, device="cpu")


def test_an_image_that_fits_is_predicted_whole(backend, free):
    free(2**40)
    assert TileChoice(backend).tiles(9000, 7000) is None


def test_otherwise_the_largest_tile_that_fits_is_taken(backend, free):
    free(2**30)
    choice = TileChoice(backend)
    tiles = choice.tiles(9000, 7000)
    usable = USABLE_SHARE * 2**30
    assert tiles.tile_px < 9000
    assert choice.needed_bytes(tiles.tile_px, 9000, 7000) <= usable
    assert choice.needed_bytes(tiles.tile_px + GRID_PX, 9000, 7000) > usable


def test_less_memory_gives_smaller_tiles_and_none_an_error_with_figures(backend, free):
    sides = []
    for mib in (2048, 1024, 512):
        free(mib * 2**20)
        sides.append(TileChoice(backend).tiles(9000, 7000).tile_px)
    assert sides == sorted(sides, reverse=True) and len(set(sides)) == 3
    free(2**20)
    with pytest.raises(DeviceError, match=r"9000x7000: even tiles of 256 pixels need \d+ MiB, and 0 MiB are usable"):
        TileChoice(backend).tiles(9000, 7000)


def test_small_images_do_not_look_at_the_memory(backend, free):
    free(0)
    assert TileChoice(backend).tiles(1024, 2048) is None


def test_whole_means_whole(backend, free):
    free(0)
    assert TileChoice(backend, tile_px="whole").tiles(9000, 9000) is None


def test_a_wanted_tile_cuts_every_larger_image(backend):
    choice = TileChoice(backend, tile_px=512, overlap_px=64)
    assert choice.tiles(512, 512) is None
    assert choice.tiles(512, 513) == Tiles(512, 64, choice.tiles(512, 513).margin_px)


def test_the_margin_is_the_reach_where_the_overlap_has_room_for_it():
    assert margin_within(128, 64) == 64
    assert margin_within(128, 10) == 10
    assert margin_within(128, 65) == 48
    assert margin_within(128, None) == 0


def test_a_networks_reach_becomes_the_margin(backend):
    margins = [TileChoice(backend, tile_px=1024, overlap_px=px).tiles(2000, 2000).margin_px for px in (512, 256, 32)]
    assert margins[0] == margins[1] == receptive_field_px(skeleton(backend.settings, 3))
    assert margins[2] == 12


def test_by_default_tiles_are_exact_where_that_is_cheap():
    assert default_overlap(2048, 100) == 224
    assert default_overlap(2048, 300) == 256  # 600 would be more than a quarter
    assert default_overlap(2048, None) == 256
    assert default_overlap(64, None) == 32


def test_views_of_several_scales_need_more(backend, free):
    free(2**30)
    plain, augmented = TileChoice(backend), TileChoice(TestTimeAugmentation(backend))
    assert augmented.needed_bytes(1024, 9000, 9000) > plain.needed_bytes(1024, 9000, 9000)
    assert augmented.tiles(9000, 9000).margin_px == 0


def test_a_backend_of_ones_own_can_be_cut(free):
    free(2**28)
    tiles = TileChoice(Brightness()).tiles(9000, 9000)
    assert tiles.tile_px >= 256 and tiles.margin_px == 0


@pytest.mark.parametrize(("computes", "asked"), [("cuda:1", "cuda:1"), (None, "cpu")])
def test_the_memory_of_what_computes_decides_and_the_machines_where_that_is_unknown(
    backend, monkeypatch, computes, asked
):
    elsewhere = copy.copy(backend)
    elsewhere.computing_device = computes and torch.device(computes)
    assert elsewhere.device == torch.device("cpu")
    looked = []
    monkeypatch.setattr(tile_choice, "free_bytes", lambda device: looked.append(device) or 2**40)
    assert TileChoice(elsewhere).tiles(9000, 7000) is None
    assert looked == [torch.device(asked)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_its_own_memory_counts(backend):
    on_gpu = TorchBackend(backend.model, device="cuda")
    assert TileChoice(on_gpu).tiles(2048, 2048) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tile_px": "large"}, "tile_px=large: auto, whole, or a number"),
        ({"tile_px": 500}, "tile_px=500"),
        ({"overlap_px": 50}, "overlap_px=50"),
        ({"tile_px": 128, "overlap_px": 96}, "at most half"),
    ],
)
def test_impossible_tiles_are_refused_at_once(backend, options, said):
    with pytest.raises(ConfigError, match=said):
        TileChoice(backend, **options)
