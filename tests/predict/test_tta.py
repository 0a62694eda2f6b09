import pytest
import torch
import torch.nn.functional as F

from pyramidseg.base.classes import Classes
from pyramidseg.predict.tta import TestTimeAugmentation, resize_images


class Filters:
    """A backend whose logits depend on position and direction: two 3x3 filters at full size."""

    name = "filters"
    classes = Classes.unnamed(2)
    in_channels = 1

    def __init__(self, scale: float = 1.0) -> None:
        self.weight = scale * torch.tensor([[[[0, 1, 2], [0, 0, 0], [0, -3, 1]]], [[[1, 0, 0], [0, 2, 0], [0, 0, 5]]]])

    def __call__(self, images):
        unit = 255 if images.dtype == torch.uint8 else 1
        return F.conv2d(images.float() / unit, self.weight.float(), padding=1)


IMAGES = torch.rand(2, 1, 12, 17, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_is_the_mean_of_probabilities_of_a_loop(dtype):
    images = IMAGES if dtype == torch.float32 else (255 * IMAGES).to(torch.uint8)
    views = []
    for size in ((9, 13), (12, 17), (15, 21)):  # 0.75, 1 and 1.25, rounded
        resized = images
        if size != (12, 17):
            resized = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True)
            resized = resized.round().to(torch.uint8) if dtype == torch.uint8 else resized
        for mirror in (False, True):
            logits = Filters()(resized.flip(3) if mirror else resized)
            logits = logits.flip(3) if mirror else logits
            views.append(F.interpolate(logits, size=(12, 17), mode="bilinear").softmax(1))
    averaged = TestTimeAugmentation(Filters())(images).exp()
    torch.testing.assert_close(averaged, torch.stack(views).mean(0))


def test_mirrored_input_gives_the_mirrored_result():
    augmented = TestTimeAugmentation(Filters())
    torch.testing.assert_close(augmented(IMAGES.flip(3)).flip(3), augmented(IMAGES))


def test_confident_models_stay_finite():
    assert TestTimeAugmentation(Filters(scale=1e4))(IMAGES).isfinite().all()


def test_a_single_pixel_can_be_scaled():
    assert TestTimeAugmentation(Filters())(IMAGES[..., :1, :1]).shape == (2, 2, 1, 1)


def test_coarse_logits_have_full_size():
    augmented = TestTimeAugmentation(Filters())
    assert augmented.geometry.stride == 1
    assert torch.equal(augmented.coarse_logits(IMAGES), augmented(IMAGES))


def test_is_a_backend_of_the_same_model():
    augmented = TestTimeAugmentation(Filters())
    assert (augmented.classes, augmented.in_channels) == (Filters.classes, 1)
    assert augmented.name.startswith("filters ")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16])
def test_resized_integers_are_rounded_and_keep_their_type(dtype):
    halved = resize_images(torch.tensor([[[[50, 53], [50, 50]]]]).to(dtype), 1, 1)
    assert (halved.dtype, halved.item()) == (dtype, 51)
    ends = torch.tensor([torch.iinfo(dtype).min, torch.iinfo(dtype).max]).repeat(1, 1, 9, 9).to(dtype)
    resized = resize_images(ends, 13, 25)
    assert (resized.int().min(), resized.int().max()) == (ends.int().min(), ends.int().max())
