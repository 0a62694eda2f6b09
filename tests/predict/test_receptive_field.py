import pytest
import torch

from pyramidseg.base.config import ModelConfig
from pyramidseg.model.cost import meta_model
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.tile_planner import receptive_field_px

SMALL = {
    "encoder": "test_resnet",
    "encoder_weights": "none",
    "coarsest_stride": 8,
    "pyramid_channels": 16,
    "segmentation_channels": 32,
}


def measured(**settings):
    return receptive_field_px(ModelConfig(**(SMALL | settings)))


def test_a_meta_model_has_the_networks_shapes_and_no_values():
    bare, real = meta_model(ModelConfig(**SMALL), 3), Segmenter(num_classes=3, **SMALL)
    assert all(tensor.is_meta for tensor in bare.state_dict().values())
    assert {name: tensor.shape for name, tensor in bare.state_dict().items()} == {
        name: tensor.shape for name, tensor in real.state_dict().items()
    }


def test_the_global_random_state_is_not_changed():
    state = torch.get_rng_state()
    measured()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("settings", [{}, {"finest_stride": 2}, {"smoothing": False}])
def test_logits_beyond_the_receptive_field_do_not_depend_on_pixels_across_a_border(settings):
    torch.manual_seed(0)
    model = Segmenter(num_classes=3, **SMALL, **settings).double().eval()
    torch.nn.init.normal_(model.classifier.weight)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)  # timm begins with residual branches of weight 0
    image = torch.rand(1, 3, 64, 512, dtype=torch.float64)
    other = image.clone()
    other[..., 256:] = torch.rand(1, 3, 64, 256, dtype=torch.float64)
    with torch.inference_mode():
        changed = (model.coarse_logits(image) != model.coarse_logits(other)).any(dim=1).any(dim=1)[0]
    first_changed = 256 - int(changed.float().argmax()) * model.settings.finest_stride
    # The receptive field covers both directions; strided convolutions make one a little shorter.
    assert first_changed <= measured(**settings) <= first_changed + 8


def test_each_setting_adds_its_convolutions():
    """A smoothing convolution at the coarsest stride of 8 adds a pixel there, at both its ends."""
    assert measured() > measured(smoothing=False)
    assert measured(coarsest_stride=16) > measured()


@pytest.mark.parametrize(
    "settings",
    [
        {"norm": "group"},
        {"encoder": "test_efficientnet", "coarsest_stride": 32},
        {"align_corners": True},
    ],
)
def test_whole_image_statistics_and_stretched_maps_have_no_receptive_field(settings):
    assert measured(**settings) is None
