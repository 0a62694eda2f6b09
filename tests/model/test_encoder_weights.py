"""What a file of `pretrain` says of itself goes with its tensors."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

from pyramidseg.model.classifier import Classifier
from pyramidseg.model.encoder import Encoder


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    classifier = Classifier("abc", encoder="test_resnet")
    classifier.set_normalization((0.1, 0.2, 0.6), (1.0, 2.0, 3.0))
    classifier.save(tmp_path / "best.safetensors", facts={})
    return tmp_path / "best.safetensors"


@pytest.mark.parametrize(
    ("channels", "mean", "std"), [(3, (0.1, 0.2, 0.6), (1.0, 2.0, 3.0)), (4, (0.3,) * 4, (2.0,) * 4)]
)
def test_a_classifiers_file_is_normalised_as_it_was_trained(
    saved: Path, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    source = Encoder("test_resnet", weights=str(saved), in_channels=channels).source
    assert source.mean == pytest.approx(mean)
    assert source.std == pytest.approx(std)
    assert source.name == "best.safetensors (pyramidseg classifier, with its mean and std)"


def test_a_file_that_says_nothing_is_normalised_as_timm_does(saved: Path) -> None:
    save_file(Classifier("abc", encoder="test_resnet").network.state_dict(), saved)
    source = Encoder("test_resnet", weights=str(saved)).source
    assert (source.mean, source.name) == ((0.5, 0.5, 0.5), "best.safetensors")
