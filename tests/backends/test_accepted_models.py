"""What people give as a model: wrappers of torch are unwrapped, everything else is named by its type in one line."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import pyramidseg as ps
from pyramidseg.backends.factory import accepted_model
from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor

SMALL = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 8, "segmentation_channels": 8}
IMAGE = np.random.default_rng(0).integers(0, 256, (33, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Segmenter(**SMALL, num_classes=3)
    nn.init.normal_(model.classifier.weight)
    return model.eval()


@pytest.fixture(scope="module")
def expected(model):
    return Predictor(model, device="cpu").predict(IMAGE).labels


def compiled_in_place(model):
    copy = Segmenter(model.settings, classes=model.classes)
    copy.load_state_dict(model.state_dict())
    copy.eval().compile()
    return copy


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        compiled_in_place,
        nn.DataParallel,
        AveragedModel,
        lambda model: torch.compile(nn.DataParallel(model)),
        lambda model: nn.DataParallel(torch.compile(model)),
    ],
)
def test_wrapped_models_predict_as_the_model(model, expected, wrap):
    assert len(np.unique(expected)) > 1
    assert np.array_equal(Predictor(wrap(model), device="cpu").predict(IMAGE).labels, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: model.state_dict(), r"a state dict of 152 tensors, .*load_state_dict"),
        (lambda model: {"state_dict": model.state_dict(), "epoch": 3}, "an object of type dict"),
        (lambda model: {}, "an object of type dict"),
        (lambda model: nn.Linear(2, 2), r"a Linear of torch\.nn\.modules\.linear"),
        (lambda model: nn.DataParallel(nn.Linear(2, 2)), "a DataParallel of torch"),
        (lambda model: Classifier("ab", encoder="test_resnet"), r"a Classifier of pyramidseg"),
        (lambda model: Segmenter, "an object of type type"),
        (lambda model: None, "an object of type NoneType"),
        (lambda model: b"run/best.safetensors", "an object of type bytes"),
        (lambda model: [model], "an object of type list"),
    ],
)
def test_anything_else_is_one_short_line(model, make, message):
    for use in (accepted_model, Predictor, lambda given: ps.evaluate(given, "dataset")):
        with pytest.raises(ConfigError, match=rf"model: {message}") as error:
            use(make(model))
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_the_advice_for_a_state_dict_is_right(model, expected):
    again = ps.Segmenter(**SMALL, num_classes=3)
    again.load_state_dict(model.state_dict())
    assert np.array_equal(Predictor(again, device="cpu").predict(IMAGE).labels, expected)


@pytest.mark.parametrize("given", [None, 3, {"weight": torch.ones(2)}, nn.Linear(2, 2)])
def test_load_model_names_what_is_no_path(given):
    with pytest.raises(WeightsError, match=f"a bundle's path is needed, got an object of type {type(given).__name__}"):
        ps.load_model(given)


def test_a_bundle_may_have_any_suffix(model, tmp_path):
    model.save(tmp_path / "model.pt")
    assert ps.load_model(tmp_path / "model.pt").classes == model.classes


class TestOtherFiles:
    """A file given in place of a bundle is named, with the option that takes it."""

    @pytest.fixture
    def refusal(self, tmp_path):
        def of(name, write):
            write(tmp_path / name)
            with pytest.raises(WeightsError, match=f"{name}: not a pyramidseg bundle, but ") as error:
                ps.load_model(tmp_path / name)
            assert "\n" not in str(error.value) and len(str(error.value)) < 500
            return str(error.value)

        return of

    @pytest.mark.parametrize("name", ["model.pth", "model.pt", "model.ckpt"])
    def test_pytorch(self, model, refusal, name):
        message = refusal(name, lambda path: torch.save(model.state_dict(), path))
        assert "pyramidseg import FILE --from smp" in message and "`encoder_weights=FILE` takes" in message

    def test_classifier(self, refusal, tmp_path):
        message = refusal("c.safetensors", lambda path: Classifier("ab", encoder="test_resnet").save(path, facts={}))
        assert "`encoder_weights`" in message
        ps.Segmenter(**SMALL | {"encoder_weights": str(tmp_path / "c.safetensors")}, num_classes=2)  # as advised

    @pytest.mark.parametrize("name", ["model.onnx", "model.xml", "model.pt2"])
    def test_export(self, refusal, name):
        assert "an exported model" in refusal(name, lambda path: path.write_bytes(b"graph"))
