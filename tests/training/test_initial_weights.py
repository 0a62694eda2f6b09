"""What a run takes from the bundle that it begins with, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.overrides import load_config
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.initial_weights import adopt_bundle_settings


def bundle(folder: Path, **settings: Any) -> Path:
    """A small model's bundle."""
    path = folder / "model.safetensors"
    small: dict[str, Any] = {"encoder_weights": "none", "pyramid_channels": 8, "segmentation_channels": 8}
    Segmenter(**{"num_classes": 2, **small, **settings}).save(path)
    return path


def adopted(path: Path, **given: Any) -> Config:
    return adopt_bundle_settings(load_config(overrides={f"model.{key}": value for key, value in given.items()}))[0]


def test_dropout_comes_from_the_bundle_unless_it_is_given(tmp_path: Path) -> None:
    path = str(bundle(tmp_path, encoder="test_resnet", dropout=0.45))
    assert adopted(path, weights=path).model.dropout == 0.45
    assert adopted(path, weights=path, dropout=0.1).model.dropout == 0.1


@pytest.mark.parametrize("held", [{"encoder": "resnet18"}, {"encoder": "resnet", "encoder_depth": 18}], ids=str)
@pytest.mark.parametrize(
    "given", [{}, {"encoder": "resnet18"}, {"encoder": "resnet", "encoder_depth": 18}, {"encoder_depth": 18}], ids=str
)
def test_one_encoder_by_any_of_its_names_is_the_bundles(
    tmp_path: Path, held: dict[str, Any], given: dict[str, Any]
) -> None:
    path = str(bundle(tmp_path, **held))
    model = adopted(path, weights=path, **given).model
    assert {name: getattr(model, name) for name in given} == given
    built = Segmenter(num_classes=2, **model.model_dump())  # refused where the tensors do not fit
    assert built.encoder.name == "resnet18"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"encoder": "resnet50"}, "is resnet50, but .* holds a resnet18"),
        ({"encoder": "efficientnet"}, "is tf_efficientnet_b0, but .* holds a resnet18"),
        ({"encoder_depth": 34}, "is resnet34, but .* holds a resnet18"),
    ],
)
def test_another_encoder_than_the_bundles_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    path = str(bundle(tmp_path, encoder="resnet", encoder_depth=18))
    with pytest.raises(ConfigError, match=message):
        adopted(path, weights=path, **given)
