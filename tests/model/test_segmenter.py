import inspect
import itertools

import pytest
import torch

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.model.segmenter import Segmenter, create_model

# test_resnet is timm's ResNet for tests: all stages of a ResNet, 0.4 million parameters.
SMALL = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 16, "segmentation_channels": 32}
SIZES = ((1, 1), (33, 65), (64, 32))
TABLE = {
    "finest_stride": (2, 4),
    "coarsest_stride": (8, 16, 32),
    "merge": ("add", "concat"),
    "norm": ("batch", "group"),
    "smoothing": (True, False),
    "interpolation": ("nearest", "bilinear"),
    "align_corners": (True, False),
}
"""Every setting that decides about shapes, with all its values."""


def small(**settings) -> Segmenter:
    return Segmenter(**{"num_classes": 3, **SMALL, **settings})


@pytest.mark.parametrize("values", tuple(itertools.product(*TABLE.values())), ids=str)
def test_logits_have_the_inputs_own_size_in_every_combination(values):
    model = small(**dict(zip(TABLE, values, strict=True))).eval()
    with torch.inference_mode():
        shapes = [tuple(model(torch.rand(1, 3, *size)).shape) for size in SIZES]
    assert shapes == [(1, 3, *size) for size in SIZES]


@pytest.mark.parametrize("encoder", ["resnet", "efficientnet"])
def test_both_families_serve_the_default_pyramid(encoder):
    model = Segmenter(num_classes=2, encoder=encoder, encoder_weights="none").eval()
    with torch.inference_mode():
        assert model(torch.rand(2, 3, 45, 70)).shape == (2, 2, 45, 70)


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_any_number_of_channels_is_taken(channels):
    with torch.inference_mode():
        assert small(in_channels=channels).eval()(torch.rand(1, channels, 40, 33)).shape == (1, 3, 40, 33)


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_other_shapes_are_refused_with_the_expected_one(shape):
    with pytest.raises(DataError, match=r"\(B, 3, H, W\)"):
        small().eval()(torch.rand(shape))


@pytest.mark.parametrize(("dtype", "unit"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_integers_mean_shares_of_their_range(dtype, unit):
    model = small().double().eval()
    integers = torch.randint(0, unit + 1, (1, 3, 32, 48)).to(dtype)
    with torch.inference_mode():
        torch.testing.assert_close(model(integers), model(integers.double() / unit), rtol=1e-9, atol=1e-12)


def test_other_rasters_are_normalised_in_raw_units():
    model = small()
    model.set_normalization((100.0, 200.0, 300.0), (10.0, 20.0, 30.0))
    raster = torch.tensor([110, 180, 330], dtype=torch.int16)[None, :, None, None]
    assert model.normalize(raster).flatten().tolist() == [1.0, -1.0, 1.0]


def test_padding_is_the_mean_colour():
    model = small()
    image = model.mean[None, :, None, None].expand(1, 3, 33, 40)
    assert not model.pad(model.normalize(image)).any()


@pytest.mark.parametrize("statistics", [((0.5,), (0.5,)), ((0.5,) * 3, (0.5, 0.5, 0.0))])
def test_normalisation_that_does_not_fit_is_refused(statistics):
    with pytest.raises(ConfigError, match="3 each are needed"):
        small().set_normalization(*statistics)


GRADIENT_VARIANTS = [
    {},
    {"finest_stride": 2, "coarsest_stride": 8},
    {"coarsest_stride": 16, "merge": "concat", "norm": "group"},
    {"smoothing": False, "interpolation": "bilinear", "align_corners": True},
    {"encoder": "efficientnet", "coarsest_stride": 16},
    {"encoder": "test_efficientnet", "finest_stride": 2, "coarsest_stride": 8},
]


@pytest.mark.parametrize("variant", GRADIENT_VARIANTS, ids=str)
def test_every_parameter_receives_a_gradient(variant):
    torch.manual_seed(0)
    model = small(image_head=True, dropout=0.0, **variant)
    for name, parameter in model.encoder.named_parameters():
        # ResNets start with residual branches scaled by 0, through which nothing flows in the first step.
        if "bn" in name and name.endswith("weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    logits, image_logits = model.logits_with_image_logits(torch.rand(2, 3, 64, 64))
    (logits * torch.randn_like(logits)).sum().backward(retain_graph=True)
    (image_logits * torch.randn_like(image_logits)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_one_pass_gives_the_same_as_two_methods():
    model = small(image_head=True).eval()
    image = torch.rand(2, 3, 50, 41)
    with torch.inference_mode():
        logits, image_logits = model.logits_with_image_logits(image)
        assert torch.equal(logits, model(image))
        assert torch.equal(image_logits, model.image_logits(image))


def test_image_logits_without_a_head_are_refused():
    with pytest.raises(ConfigError, match="image_head=True"):
        small().eval().image_logits(torch.rand(1, 3, 32, 32))


def test_heads_start_as_stated():
    torch.manual_seed(0)
    model = small(num_classes=40, segmentation_channels=128, image_head=True)
    assert model.head is not None
    for layer in (model.classifier, model.head):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not layer.bias.any()


def test_pyramid_maps_halve_from_the_finest_stride():
    with torch.inference_mode():
        maps = small().eval().pyramid_maps(torch.rand(1, 3, 60, 64))
    assert [tuple(level.shape) for level in maps] == [(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": None}, r"give num_classes=N or classes="),
        ({"num_classes": "8"}, "num_classes='8': give"),
        ({"num_classes": True}, "num_classes=True: give"),
        ({"classes": Classes.unnamed(2)}, "num_classes=3 contradicts the 2 classes"),
        ({"dropout": 1.0}, "dropout"),
        ({"finest_stride": 8}, "finest_stride=8"),
        ({"norm": "group", "segmentation_channels": 48}, "multiple of 32"),
        ({"merge": "cat"}, "merge='cat'"),
        ({"in_channels": 0}, "in_channels=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        small(**settings)


def test_a_list_of_names_is_classes(tmp_path):
    model = Segmenter(**{**SMALL, "classes": ["low", "high"]})
    model.save(tmp_path / "model.safetensors")
    assert Segmenter.load(tmp_path / "model.safetensors").classes == Classes.from_names(["low", "high"])


class TestTrainingBatches:
    def test_one_value_per_channel_is_refused_under_batch_norm(self):
        with pytest.raises(ConfigError, match="one value per channel at stride 32"):
            small().check_training_batch(1, 32, 20)

    @pytest.mark.parametrize("batch", [(2, 32, 32), (1, 33, 32)])
    def test_two_values_are_enough(self, batch):
        model = small()
        model.check_training_batch(*batch)
        model(torch.rand(batch[0], 3, *batch[1:]))

    def test_what_is_refused_would_indeed_fail(self):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            small()(torch.rand(1, 3, 32, 32))

    def test_frozen_norms_take_any_batch(self):
        small(norm="group").eval().check_training_batch(1, 1, 1)


def test_create_model_has_the_defaults_of_the_settings():
    model = create_model("test_resnet", num_classes=4, encoder_weights=None)
    assert model.settings == ModelConfig(encoder="test_resnet", encoder_weights="none")
    parameters = inspect.signature(create_model).parameters
    defaults = {name: parameters[name].default for name in ("encoder_weights", "in_channels", "dropout")}
    assert defaults == {name: getattr(ModelConfig(), name) for name in defaults}


def test_single_settings_override_a_config():
    config = ModelConfig(encoder="test_resnet", encoder_weights="none", pyramid_channels=8, merge="concat")
    model = Segmenter(config, num_classes=2, pyramid_channels=16)
    assert model.settings == config.model_copy(update={"pyramid_channels": 16})


def test_an_unknown_setting_is_rejected_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown setting 'pyramid_chanels'; did you mean 'model\.pyramid_channels'"):
        Segmenter(num_classes=2, pyramid_chanels=8)
