import io

import numpy as np
import pytest
import torch
from PIL import Image

from pyramidseg.model.pyramid_picture import draw_pyramid, principal_colors
from pyramidseg.model.segmenter import Segmenter


@pytest.mark.parametrize(
    ("channels", "dtype", "size"), [(3, np.uint8, (50, 70)), (1, np.uint16, (33, 20)), (5, np.float32, (1, 1))]
)
def test_draws_any_image_as_a_png(channels, dtype, size):
    model = Segmenter(
        num_classes=3, encoder="test_resnet", encoder_weights="none", in_channels=channels, pyramid_channels=8
    )
    pixels = np.random.default_rng(0).random((*size, channels))
    image = pixels.astype(dtype) if dtype == np.float32 else (pixels * np.iinfo(dtype).max).astype(dtype)
    with Image.open(io.BytesIO(draw_pyramid(model, image))) as picture:
        assert picture.format == "PNG"
        assert len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 20


def test_colours_are_the_principal_components_of_a_reference():
    level = (
        torch.randn(6, 9, 11, generator=torch.Generator().manual_seed(0))
        * torch.tensor([9, 5, 3, 1, 1, 1.0])[:, None, None]
    )
    colors = principal_colors(level).reshape(-1, 3)
    values = level.flatten(1).T.double().numpy()
    reference = np.linalg.svd(values - values.mean(0), full_matrices=False)[0][:, :3]
    for color, component in zip(colors.T, reference.T, strict=True):
        inside = (color > 0) & (color < 1)
        assert abs(np.corrcoef(color[inside], component[inside])[0, 1]) > 0.9999


def test_colours_repeat_and_take_few_channels_and_pixels():
    level = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(principal_colors(level), principal_colors(level))
    assert not principal_colors(level)[..., 2].any()
    assert np.isfinite(principal_colors(torch.ones(8, 1, 1))).all()
