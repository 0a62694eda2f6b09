"""Advice of `import` and about weights of encoders: the logits are those of the right network."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import pyramidseg as ps
from followed import Terminal, message
from peer import peer
from pyramidseg.model.encoder import Encoder
from pyramidseg.model.encoder_weights import IMAGENET_MEAN, IMAGENET_STD

ENCODER = "tu-test_resnet"
SCENES = Path(__file__).parents[1] / "compatibility" / "files" / "scenes"
MEAN, STD = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
IMAGE = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return peer(ENCODER)


@pytest.fixture
def file(network: nn.Module, tmp_path: Path) -> Path:
    """Its tensors, as training scripts save them."""
    torch.save(network.state_dict(), tmp_path / "my weights.pth")
    return tmp_path / "my weights.pth"


def agrees(bundle: Path, network: nn.Module, image: torch.Tensor | None = None) -> bool:
    """Whether a bundle gives the logits of smp's network, which gets an image that is normalized already."""
    normalized = (IMAGE / 255 - MEAN) / STD if image is None else image
    with torch.inference_mode():
        return torch.allclose(ps.load_model(bundle)(IMAGE), network(normalized), atol=1e-3)


def flags(file: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("import", file, "--from", "smp", "--encoder", ENCODER, "--out", out, *more)


def test_the_encoder_and_the_name_of_the_bundle_are_added(
    terminal: Terminal, network: nn.Module, file: Path, tmp_path: Path
) -> None:
    words = ("import", file, "--from", "smp", "--out")
    flag = re.search(r"write (--out) (.+\.safetensors)", terminal(*words, tmp_path / "b.pth", status=2))
    assert flag
    text = terminal(*words, flag[2], status=2)
    shown = re.search(r"such as (--encoder) resnet34 or --encoder (tu-)convnext_tiny", text)
    assert shown
    terminal(*words, flag[2], shown[1], f"{shown[2]}test_resnet")
    assert agrees(Path(flag[2]), network)


def test_the_command_that_predict_shows_for_a_file_of_pytorch(
    terminal: Terminal, network: nn.Module, file: Path, tmp_path: Path
) -> None:
    text = terminal("predict", file, tmp_path, "--out", tmp_path / "out", status=2)
    words = shlex.split(re.search(r"pyramidseg (import FILE .*?\.safetensors) converts", text)[1])
    values = {"FILE": file, "NAME": ENCODER, "BUNDLE.safetensors": tmp_path / "BUNDLE.safetensors"}
    terminal(*(values.get(word, word) for word in words))
    assert agrees(tmp_path / "BUNDLE.safetensors", network)


@pytest.mark.parametrize("way", ["choose another file", "--overwrite"])
def test_a_bundle_that_exists(terminal: Terminal, network: nn.Module, file: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "b.safetensors").write_text("mine")
    assert way in terminal(*flags(file, tmp_path / "b.safetensors"), status=2)
    out = tmp_path / ("b.safetensors" if way == "--overwrite" else "c.safetensors")
    terminal(*flags(file, out, *([way] if way == "--overwrite" else [])))
    assert agrees(out, network)
    assert way == "--overwrite" or (tmp_path / "b.safetensors").read_text() == "mine"


def test_classes_are_named(terminal: Terminal, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    flag = re.search(r"classes are numbered; (--classes) names them", terminal(*flags(file, out)))[1]
    assert ps.load_model(out).classes.names[4] == "class 4"
    text = terminal(*flags(file, out, "--overwrite", flag, "a,b"), status=2)
    names = "abcdefgh"[: int(re.search(r"the network has (\d) classes", text)[1])]
    terminal(*flags(file, out, "--overwrite", flag, ",".join(names)))
    assert "".join(ps.load_model(out).classes.names) == names


def test_the_folder_with_the_settings_is_given_instead_of_its_file(
    terminal: Terminal, file: Path, tmp_path: Path
) -> None:
    """The settings say what no tensor does: how maps are enlarged."""
    network = peer(ENCODER, decoder_interpolation="bilinear")
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    settings = {"_model_class": "FPN", "encoder_name": ENCODER, "decoder_interpolation": "bilinear"}
    (folder / "config.json").write_text(json.dumps(settings))
    out = tmp_path / "b.safetensors"
    text = terminal(*flags(folder / "model.safetensors", out))
    assert "give the folder instead of the file" in text and not agrees(out, network)
    terminal("import", folder, "--from", "smp", "--out", out, "--overwrite")
    assert agrees(out, network)
    flag = re.search(r"decoder_interpolation is not stored .*; (--interpolation) sets another", text)[1]
    terminal(*flags(folder / "model.safetensors", out, "--overwrite", flag, "bilinear"))
    assert agrees(out, network)
    text = terminal("import", folder, "--from", "smp", "--out", out, "--overwrite", flag, "nearest", status=2)
    assert f"leave {flag} out" in text
    (folder / "model.safetensors").unlink()
    assert "give a file of weights" in terminal(
        "import", folder, "--from", "smp", "--out", tmp_path / "c.safetensors", status=2
    )
    terminal(*flags(file, out, "--overwrite"))


def test_the_mean_and_the_range_that_the_network_was_trained_with(
    terminal: Terminal, network: nn.Module, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "b.safetensors"
    mean, std = re.search(r"assumed; (--mean) and (--std) set others", terminal(*flags(file, out))).groups()
    given = (mean, "10,20,30", std, "40,50,60")
    assert "give both or neither" in terminal(*flags(file, out, "--overwrite", *given[:2]), status=2)
    text = terminal(*flags(file, out, "--overwrite", *given, "--input-range", "0"), status=2)
    largest = re.search(r"(--input-range) 0: give the largest value of an image, such as (255)", text).groups()
    terminal(*flags(file, out, "--overwrite", *given, *largest))
    means, deviations = (torch.tensor(values)[:, None, None] for values in ((10.0, 20.0, 30.0), (40.0, 50.0, 60.0)))
    assert agrees(out, network, (IMAGE - means) / deviations)


def test_one_of_several_networks_in_a_file_is_chosen(terminal: Terminal, network: nn.Module, tmp_path: Path) -> None:
    file, out = tmp_path / "two.pth", tmp_path / "b.safetensors"
    other = peer(ENCODER, seed=1)
    both = {"student": network, "teacher": other}
    torch.save({f"{name}.{key}": value for name, it in both.items() for key, value in it.state_dict().items()}, file)
    text = terminal(*flags(file, out), status=2)
    flag, prefix = re.search(r"choose one: (--prefix) (\S+)", text).groups()
    terminal(*flags(file, out, flag, prefix))
    assert agrees(out, other) and prefix == "teacher."
    listed = re.findall(r"'([^']+)'", text.partition("networks under")[2])
    terminal(*flags(file, out, "--overwrite", flag, listed[0]))
    assert agrees(out, network)


def test_a_pickled_model_is_saved_as_tensors_by_the_line_that_is_shown(
    terminal: Terminal, network: nn.Module, tmp_path: Path
) -> None:
    file, out = tmp_path / "model.pth", tmp_path / "b.safetensors"
    torch.save(network, file)
    text = terminal(*flags(file, out), status=2)
    line = re.search(r"torch\.save\(model\.state_dict\(\), FILE\)", text)[0]
    exec(line, {"torch": torch, "model": network, "FILE": file})
    terminal(*flags(file, out))
    assert agrees(out, network)


def test_a_library_gets_the_nearest(terminal: Terminal, network: nn.Module, file: Path, tmp_path: Path) -> None:
    words = ["import", file, "--from", "spm", "--encoder", ENCODER, "--out", tmp_path / "b.safetensors"]
    words[3] = re.search(r"did you mean '(\w+)'", terminal(*words, status=2))[1]
    terminal(*words)
    assert agrees(tmp_path / "b.safetensors", network)


def saved(name: str, file: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = timm.create_model(name).state_dict()
    save_file(state, file)
    return state


def is_loaded(encoder: Encoder, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in encoder.network.state_dict().items())


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Encoder("test_resnet", weights="imagenet", in_channels=3),
        lambda: Encoder("test_resnet", weights="r999_in1k", in_channels=3),
    ],
)
def test_weights_without_a_tag_are_a_file_or_random(tmp_path: Path, refused: Callable[[], object]) -> None:
    text = message(refused)
    assert "tags of timm: r160_in1k; or a file, or encoder_weights=none" in text  # the tag needs a network: test_hub
    state = saved("test_resnet", tmp_path / "w.safetensors")
    assert is_loaded(Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"), in_channels=3), state)
    assert Encoder("test_resnet", weights="none", in_channels=3).source.kind == "random"


@pytest.mark.parametrize("weights", ["in1k", "imagenett"])
def test_the_packages_weights_are_found_from_other_names(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    text = message(lambda: Encoder("tf_efficientnet_lite0", weights=weights, in_channels=3))
    advice = re.search(r"encoder_weights=(imagenet)\b", text)
    assert advice and "pip install" not in text
    assert Encoder("tf_efficientnet_lite0", weights=advice[1], in_channels=3).source.kind == "pretrained"


def test_a_dry_run_says_that_weights_are_to_be_downloaded(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    words = ("train", SCENES, "--dry-run", "data.crop=64", "--device", "cpu", "--encoder")
    assert "encoder weights resnet34.tv_in1k (not on this machine yet)" in terminal(*words, "resnet34")
    assert "yet" not in terminal(*words, "tf_efficientnet_lite0")


def test_a_file_of_another_network_is_given_to_the_encoder_that_it_is_of(tmp_path: Path) -> None:
    state = saved("test_efficientnet", tmp_path / "w.safetensors")
    text = message(lambda: Encoder("test_resnet", weights=str(tmp_path / "w.safetensors"), in_channels=3))
    assert "not weights of test_resnet: of" in text
    page = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert "give the encoder that the file is of" in " ".join(page.split())
    assert is_loaded(Encoder("test_efficientnet", weights=str(tmp_path / "w.safetensors"), in_channels=3), state)
