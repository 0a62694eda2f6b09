"""Classifiers as they are pretrained for segmentation: which networks, which crops."""

import pytest
import torch

from pyramidseg.base.errors import ConfigError
from pyramidseg.model.classifier import Classifier


def test_a_network_that_segmentation_cannot_use_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"vit_tiny_patch16_224: .*the pyramid needs \[4, 8, 16, 32\]"):
        Classifier("ab", encoder="vit_tiny_patch16_224")


def test_networks_of_one_size_are_told_to_take_any_where_they_can() -> None:
    classifier = Classifier("abc", encoder="swin_tiny_patch4_window7_224")
    classifier.check_training_batch(2, 320, 320)
    assert classifier(torch.rand(1, 3, 64, 96)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "batch", "side", "message"),
    [
        ("test_maxvit", 4, 224, r"4 x 224x224 pixels \(AssertionError: .* among the multiples of 160"),
        ("test_resnet", 1, 32, r"1 x 32x32 pixels \(ValueError: Expected more than 1 value per channel"),
    ],
)
def test_what_a_step_would_fail_on_is_refused(name: str, batch: int, side: int, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^encoder={name}: cannot be trained on a batch of {message}"):
        Classifier("ab", encoder=name).check_training_batch(batch, side, side)


def test_checking_a_batch_changes_nothing() -> None:
    classifier = Classifier("ab", encoder="test_resnet", dropout=0.5)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    classifier.check_training_batch(2, 64, 64)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert classifier.training
