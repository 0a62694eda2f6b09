import pytest
import torch
from torch import nn

from pyramidseg.model.inference import fold_batch_norm, inference_copy
from pyramidseg.model.segmenter import Segmenter


def norms_in(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def with_statistics(model: nn.Module) -> nn.Module:
    """As after training: norms that are not the identity."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def segmenter(encoder="test_resnet", **settings) -> Segmenter:
    model = Segmenter(
        num_classes=3,
        encoder=encoder,
        encoder_weights="none",
        pyramid_channels=16,
        segmentation_channels=32,
        **settings,
    )
    with_statistics(model)
    return model


IMAGES = torch.randint(0, 256, (2, 3, 45, 61), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("encoder", ["resnet18", "test_efficientnet", "mobilenetv3_small_050"])
def test_gives_the_same_logits_in_float64_without_any_norm(encoder):
    model = segmenter(encoder).double()
    folded = inference_copy(model)
    assert norms_in(model) > 15
    assert norms_in(folded) == 0
    with torch.inference_mode():
        torch.testing.assert_close(folded(IMAGES), model(IMAGES), rtol=1e-9, atol=1e-9)


def test_leaves_the_original_as_it_was():
    model = segmenter().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inference_copy(model, dtype=torch.bfloat16)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_keeps_group_norm():
    model = segmenter(norm="group").double()
    folded = inference_copy(model)
    assert any(isinstance(module, nn.GroupNorm) for module in folded.modules())
    with torch.inference_mode():
        torch.testing.assert_close(folded(IMAGES), model(IMAGES), rtol=1e-9, atol=1e-9)


def test_lower_precision_normalises_in_full():
    """65535 is infinite in float16: 16-bit images have to be scaled before they become one."""
    model = segmenter()
    bright = torch.full((1, 3, 32, 32), 65535, dtype=torch.int32).to(torch.uint16)
    half = inference_copy(model, dtype=torch.float16)
    with torch.inference_mode():
        logits, expected = half.coarse_logits(bright), model.coarse_logits(bright)
    assert logits.dtype == torch.float16
    torch.testing.assert_close(logits.float(), expected, rtol=0.02, atol=0.002)


class Shared(nn.Module):
    """A convolution whose output a norm and something else read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.conv(x)
        return x + self.norm(x).relu()


class Returned(Shared):
    def forward(self, x):
        x = self.conv(x)
        return self.norm(x), x


class Twice(Shared):
    def forward(self, x):
        return self.norm(self.conv(x)) + self.conv(x)


class InPlace(Shared):
    def forward(self, x):
        x = self.conv(x)
        x += 1
        return self.norm(x)


class Standardised(nn.Conv2d):
    """Weights that are scaled when they are used: scaling them before changes nothing."""

    def forward(self, x):
        return torch.conv2d(x, self.weight / self.weight.std(), self.bias, padding=1)


class OfAnotherKind(Shared):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Standardised(3, 3, 3, padding=1)

    def forward(self, x):
        return self.norm(self.conv(x))


@pytest.mark.parametrize("network", [Shared, Returned, Twice, InPlace, OfAnotherKind])
def test_leaves_a_norm_that_is_not_the_only_reader_of_a_plain_convolution(network):
    model = with_statistics(network())
    x = torch.rand(1, 3, 8, 8)
    expected = model(x)
    assert fold_batch_norm(model, x) == 0
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)


def test_folds_a_convolution_with_bias_and_a_norm_without_weights():
    model = with_statistics(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1, bias=True)))
    norm = nn.BatchNorm2d(5, affine=False).eval()
    norm.running_mean.normal_()
    model = nn.Sequential(*model, norm).double().eval()
    x = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    expected = model(x)
    assert fold_batch_norm(model, x) == 1
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_refuses_training_mode():
    with pytest.raises(AssertionError, match="training mode"):
        fold_batch_norm(Shared(), torch.rand(1, 3, 8, 8))
