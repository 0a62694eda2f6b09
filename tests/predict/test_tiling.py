import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.backends import LogitGeometry
from pyramidseg.base.errors import ConfigError
from pyramidseg.predict.segmentation import OutputOptions, segment_batch, segment_tiled
from pyramidseg.predict.tile_planner import receptive_field_px
from pyramidseg.predict.tiling import (
    GRID_PX,
    Tiles,
    blend_tiles,
    padding_of,
    round_up,
    tile_grid,
    window_weights,
    windows_along,
)
from support import tiny_segmenter


class Double:
    """A model as a backend in float64, with batch norms that have seen something."""

    name = "double"
    in_channels = 3

    def __init__(self, **settings):
        torch.manual_seed(0)
        model = tiny_segmenter(num_classes=4, coarsest_stride=8, pyramid_channels=16, **settings)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)  # timm begins with residual branches of weight 0
                torch.nn.init.normal_(module.running_mean, std=0.1)
                torch.nn.init.uniform_(module.running_var, 0.5, 2)
        torch.nn.init.normal_(model.classifier.weight)
        self.model = model.double().eval()
        self.classes = model.classes
        self.geometry = LogitGeometry(model.settings.finest_stride, model.settings.align_corners)
        self.sizes = []

    @torch.inference_mode()
    def coarse_logits(self, images):
        self.sizes.append(tuple(images.shape[-2:]))
        return self.model.coarse_logits(images)

    def receptive_field(self):
        return receptive_field_px(self.model.settings)


def noise(height, width):
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def blended(backend, image, tiles):
    """Coarse logits of the whole image, and the blocks of rows that they came in."""
    stride = backend.geometry.stride
    padding_px = padding_of(backend.coarse_logits(image[None, :, :1, :1]), stride=stride)
    grid = tile_grid(*image.shape[-2:], tiles, stride=stride, padding_px=padding_px)
    return joined(blend_tiles(backend.coarse_logits, image, grid))


def joined(blocks):
    """Rows of all blocks, without the row that each shares with the one before; and the blocks."""
    blocks = list(blocks)
    return torch.cat([block.logits[:, min(block.first, 1) :] for block in blocks], dim=1), blocks


@pytest.mark.parametrize(
    "settings", [{}, {"finest_stride": 2}, {"merge": "concat", "smoothing": False}, {"interpolation": "bilinear"}]
)
def test_tiles_equal_the_whole_image_where_the_overlap_covers_the_receptive_field(settings):
    backend = Double(**settings)
    receptive_field = backend.receptive_field()
    assert receptive_field is not None and 0 < receptive_field < 96
    overlap = round_up(2 * receptive_field, GRID_PX)
    image = noise(2 * overlap + 45, 3 * overlap + 7)
    whole = backend.coarse_logits(image[None])[0]
    found, blocks = blended(backend, image, Tiles(2 * overlap, overlap, receptive_field))
    assert len(blocks) > 1
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)


def test_a_margin_below_the_receptive_field_is_not_exact():
    backend = Double()
    receptive_field = backend.receptive_field()
    overlap = round_up(2 * receptive_field, GRID_PX)
    image = noise(2 * overlap + 45, 2 * overlap)
    whole = backend.coarse_logits(image[None])[0]
    assert not torch.allclose(blended(backend, image, Tiles(2 * overlap, overlap, 8))[0], whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("settings", [{"norm": "group"}, {"align_corners": True}, {}])
def test_smaller_overlaps_stay_close_to_the_whole_image(settings):
    backend, image = Double(**settings), noise(200, 333)
    whole = backend.coarse_logits(image[None])[0]
    found, _ = blended(backend, image, Tiles(160, 64))
    assert found.shape == whole.shape
    assert 0 < (found - whole).abs().mean() < 0.2 * whole.std()


@pytest.mark.parametrize("options", [OutputOptions(), OutputOptions(confidence=True, probabilities=True)])
def test_a_tiled_segmentation_is_that_of_its_blended_logits(options):
    backend, image = Double(), noise(170, 233)
    tiles = Tiles(96, 32)
    (expected,) = segment_batch(
        blended(backend, image, tiles)[0][None], 170, 233, backend.geometry, backend.classes, options
    )
    found = segment_tiled(backend, image, tiles, options)
    np.testing.assert_array_equal(found.labels, expected.labels)
    if options.confidence:
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)
        np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)


def test_blocks_hold_a_row_of_windows_at_most():
    backend, tiles = Double(), Tiles(96, 32)
    _, blocks = blended(backend, noise(600, 100), tiles)
    assert max(block.logits.shape[1] for block in blocks) <= tiles.tile_px // backend.geometry.stride + 1
    assert max(height for height, _ in backend.sizes) <= tiles.tile_px


def test_any_function_can_be_tiled():
    """A plain function of pixels: red and green means of 4 x 4 cells, which tiles must not change."""

    def cell_means(images):
        shapes.append(images.shape)
        return torch.nn.functional.avg_pool2d(images[:, :2], 4)

    shapes = []
    image = torch.rand(3, 200, 328, dtype=torch.float64)
    whole = cell_means(image[None])[0]
    found, blocks = joined(blend_tiles(cell_means, image, tile_grid(200, 328, Tiles(96, 32), stride=4, padding_px=4)))
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-12)
    assert len(blocks) > 1
    assert set(shapes[1:]) <= {(1, 3, height, width) for height in (96, 72) for width in (96, 72)}


lengths = st.integers(1, 700)
sides = st.integers(2, 8).map(lambda count: count * GRID_PX)


@given(lengths, sides, st.data(), st.sampled_from([(1, 1), (2, 8), (4, 16), (4, 32)]))
@settings(max_examples=150, deadline=None)
def test_weights_of_all_windows_add_up_to_one_at_every_point(length, side, data, strides):
    stride, padding = strides
    overlap = GRID_PX * data.draw(st.integers(0, side // GRID_PX // 2))
    tiles = Tiles(side, overlap, data.draw(st.integers(0, overlap // 2 // stride)) * stride)
    windows = windows_along(length, tiles, stride=stride, padding_px=padding)
    points = windows[-1].points.stop
    assert points == round_up(length, padding) // stride
    total = np.zeros(points)
    for window in windows:
        assert (window.weights > 0).all()
        assert window.pixels.start % GRID_PX == 0
        assert 0 < window.pixels.stop - window.pixels.start <= side
        assert window.offset == window.points.start - window.pixels.start // stride
        total[window.points] += window.weights
    np.testing.assert_allclose(total, 1)
    assert (windows[0].pixels.start, windows[-1].pixels.stop) == (0, length)


def test_weights_fall_linearly_over_the_overlap_and_never_to_zero():
    np.testing.assert_allclose(
        window_weights(10, 4, 0, before=True, after=False), [0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1, 1, 1]
    )
    np.testing.assert_allclose(window_weights(10, 4, 1, before=False, after=True), [1, 1, 1, 1, 1, 1, 1, 0.75, 0.25, 0])


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((100, 32), r"`tile_px=100`: must be a multiple of 32 .*try 96 or 128"),
        ((32, 0), r"`tile_px=32`: .*at least 64"),
        ((128, 33), r"overlap_px=33"),
        ((128, -32), r"overlap_px=-32"),
        ((128, 96), r"`overlap_px=96` with `tile_px=128`: the overlap may be at most half"),
    ],
)
def test_sides_off_the_grid_are_rejected(sides, message):
    with pytest.raises(ConfigError, match=message):
        Tiles(*sides)
