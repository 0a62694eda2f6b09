"""Advice of `config`, `inspect`, `predict`, `evaluate` and `pretrain`, and of training on images in other units."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from followed import Terminal, counted, message, settings_in, sizes, with_settings
from made_files import image, opened, pairs
from made_geo import write_image
from pyramidseg.images.value_range import BYTES
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.pretrain.image_folders import open_image_folders
from support import TINY

FILES = Path(__file__).parents[1] / "compatibility" / "files"
BUNDLE, SCENES = FILES / "trained.safetensors", FILES / "scenes"
SMALL = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 32, "segmentation_channels": 32}


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def test_the_file_of_settings_is_saved_changed_and_passed(terminal: Terminal, tmp_path: Path) -> None:
    text = terminal("config")
    assert 'remove the "# " in front of the settings to change' in text
    file = tmp_path / "settings.yaml"
    file.write_text(re.sub(r"^  # crop:.*", "  crop: 96", text, flags=re.MULTILINE))
    printed = terminal("train", SCENES, "--dry-run", "--config", file, *TINY[:-1])
    assert "crops of 96x96" in printed


def test_a_share_for_val_is_left_out_or_images_are_added(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "a")
    assert "add more, or a val split" in message(lambda: opened(tmp_path))
    pairs(tmp_path / "images", tmp_path / "masks", "b")
    assert sizes(opened(tmp_path)) == {"train": 1, "val": 1}


def test_two_images_of_one_output_are_renamed_or_predicted_apart(terminal: Terminal, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    words = ("predict", BUNDLE, tmp_path / "a.jpg", tmp_path / "a.png", "--out")
    assert "predict them into different folders, or rename one" in terminal(*words, tmp_path / "out", status=2)
    for name in ("a.jpg", "a.png"):
        terminal("predict", BUNDLE, tmp_path / name, "--out", tmp_path / name[2:])
        assert (tmp_path / name[2:] / "a.png").is_file()
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    terminal("predict", BUNDLE, tmp_path / "a.jpg", tmp_path / "b.png", "--out", tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").glob("*.png")} == {"a.png", "b.png"}


def test_a_dataset_of_other_classes_is_replaced_by_one_of_the_bundles(terminal: Terminal, tmp_path: Path) -> None:
    root = shutil.copytree(SCENES, tmp_path / "data")
    content = yaml.safe_load((root / "dataset.yaml").read_text())
    (root / "dataset.yaml").write_text(yaml.safe_dump({**content, "classes": content["classes"][:-1], "ignore": ["*"]}))
    text = terminal("evaluate", BUNDLE, root, status=2)
    assert "7 classes, but the model has 8" in text and "evaluate it on a dataset with its own classes" in text
    assert "mIoU 0.0922" in terminal("evaluate", BUNDLE, SCENES)


def twelve_bits(root: Path) -> Path:
    random = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for name in "abc":
        write_image(root / "images" / f"{name}.tif", random.integers(0, 4096, (64, 64, 3)).astype(np.uint16))
        Image.fromarray(np.resize(np.array([0, 1], np.uint8), (64, 64))).save(root / "masks" / f"{name}.png")
    return root


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_fine_tuning_on_images_in_other_units_fits_the_normalization(
    terminal: Terminal, tmp_path: Path, dtype: str
) -> None:
    root = twelve_bits(tmp_path / "data")
    for number, file in enumerate(sorted((root / "images").iterdir())):
        write_image(file, np.random.default_rng(number).integers(0, 4096, (64, 64, 3)).astype(dtype))
    model = Segmenter(**SMALL, classes=["class 0", "class 1"])
    model.value_range = BYTES
    model.save(tmp_path / "bytes.safetensors")
    words = ("train", root, "--dry-run", "--weights", tmp_path / "bytes.safetensors", "data.crop=64")
    (setting,) = settings_in(terminal(*words, status=2).splitlines()[0])
    assert setting == "data.normalization=dataset"
    mean = re.search(r"mean ([\d.]+)", terminal(*words, setting))[1]
    assert float(mean) == pytest.approx(2047, rel=0.02)


def test_a_band_without_data_is_left_out(terminal: Terminal, tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        values = np.random.default_rng(number).integers(1, 4096, (64, 64, 4)).astype(np.float32)
        values[..., 3] = np.nan
        write_image(tmp_path / "images" / f"{name}.tif", values)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.resize(np.array([0, 1], np.uint8), (64, 64))).save(tmp_path / "masks" / f"{name}.png")
    words = ("train", tmp_path, "--dry-run", *TINY)
    text = terminal(*words, "model.in_channels=4", status=2)
    number = int(re.search(r"channel (\d+) has no data in any training image; leave it out \(data\.bands\)", text)[1])
    bands = [band for band in (1, 2, 3, 4) if band != number]
    printed = terminal(*words, f"data.bands={bands}".replace(" ", ""))
    assert "2 training images" in printed and len(bands) == 3
    assert counted(with_settings(tmp_path, [f"data.bands={bands}".replace(" ", "")])) == {
        "class 0": 6144,
        "class 1": 6144,
    }


def classified(root: Path, *places: str) -> None:
    for place in places:
        for number in range(2):
            image(root / place / f"{number}.jpg")


@pytest.mark.parametrize(
    ("given", "advice", "follow"),
    [
        (["val/cat", "val/dog"], "put the training images into train/CLASS/", ["train/cat", "train/dog"]),
        (["train/cat", "val/cat"], "at least two classes, each in its own folder", ["train/dog"]),
        (["train/cat", "train/dog", "val/cat", "val/dog", "val/owl"], r"add (train/owl)", ["train/owl"]),
    ],
)
def test_folders_of_classes_that_are_completed(
    tmp_path: Path, given: list[str], advice: str, follow: list[str]
) -> None:
    classified(tmp_path, *given)
    assert re.search(advice, message(lambda: open_image_folders(tmp_path)))
    classified(tmp_path, *follow)
    found = open_image_folders(tmp_path)
    assert found.classes == tuple(sorted({Path(place).name for place in (*given, *follow)}))
    assert {split: len(entries) for split, entries in found.splits.items()} == {
        split: 2 * sum(place.startswith(split) for place in (*given, *follow)) for split in ("train", "val")
    }


@pytest.mark.parametrize("remedy", ["remove the folder", "or add images"])
def test_a_class_without_images(tmp_path: Path, remedy: str) -> None:
    classified(tmp_path, "cat", "dog")
    (tmp_path / "owl").mkdir()
    assert remedy in message(lambda: open_image_folders(tmp_path))
    classified(tmp_path, "owl") if "add" in remedy else (tmp_path / "owl").rmdir()
    assert open_image_folders(tmp_path).classes == (("cat", "dog", "owl") if "add" in remedy else ("cat", "dog"))


def test_a_model_by_its_classes_or_their_number(tmp_path: Path) -> None:
    text = message(lambda: Segmenter(**SMALL))
    assert "give num_classes=N or classes=[name, ...]" in text
    torch.manual_seed(0)
    assert len(Segmenter(**SMALL, num_classes=3).classes) == 3
    assert Segmenter(**SMALL, classes=["a", "b"]).classes.names == ("a", "b")
    assert "give one of them" in message(lambda: Segmenter(**SMALL, num_classes=3, classes=["a", "b"]))
