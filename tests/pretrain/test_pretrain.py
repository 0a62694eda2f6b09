"""Pretraining: folders of images by class to an encoder that segmentation begins with."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidseg.base.config import Config
from pyramidseg.base.errors import DataError
from pyramidseg.base.overrides import SETTINGS, load_config
from pyramidseg.cli.main import main
from pyramidseg.images.decode import read_image
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.encoder_weights import IMAGENET_MEAN, EncoderSource
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.pretrain import classification_task as classification
from pyramidseg.pretrain.classification_task import CLASSIFIER_SETTINGS, count_errors, prepare_classification
from pyramidseg.pretrain.image_folders import center_crop, open_image_folders, random_resized_crop
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.segmentation_training import train
from support import TINY_SETTINGS

TINY = ["--encoder", "test_resnet", "--crop", "32", "--batch-size", "8", "--workers", "0", "--device", "cpu"]
COLORS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 50, 40)}


def write_images(folder: Path, count: int, *, seed: int = 0) -> Path:
    """Noisy images whose colour tells their class."""
    rng = np.random.default_rng(seed)
    for name, color in COLORS.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            size = rng.integers(30, 60, size=2)
            noise = rng.normal(0, 30, size=(*size, 3))
            Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8)).save(
                folder / name / f"{index}.png"
            )
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classes")
    write_images(root / "train", 16)
    write_images(root / "val", 4, seed=1)
    return root


@pytest.fixture(scope="module")
def pretrained(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrained") / "run"
    assert main(["pretrain", str(folders), "--out", str(out), "--epochs", "4", "optim.ema=0.5", *TINY]) == 0
    return out


def test_a_run_holds_what_a_segmentation_run_holds(pretrained: Path) -> None:
    names = {path.name for path in pretrained.iterdir()}
    assert names >= {
        "config.yaml",
        "dataset.yaml",
        "metrics.csv",
        "best.safetensors",
        "last.safetensors",
        "report.html",
    }
    with (pretrained / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 4
    assert float(rows[-1]["val_error"]) < 0.3
    assert float(rows[-1]["val_top5_error"]) == 0  # three classes
    page = (pretrained / "report.html").read_text(encoding="utf-8")
    assert "top-1 error" in page
    assert "3</dd>" in page


def test_its_weights_begin_a_segmenter(pretrained: Path, scenes: Path, tmp_path: Path) -> None:
    weights = pretrained / "best.safetensors"
    model = Segmenter(num_classes=4, **{**_model_settings(), "encoder_weights": str(weights)})
    from safetensors.torch import load_file

    stored = load_file(weights)
    for name, tensor in model.encoder.network.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    assert "fc.weight" in stored
    assert model.mean.tolist() == pytest.approx(IMAGENET_MEAN)  # as it was trained; timm's own of this network is 0.5
    assert model.encoder_source.name == "best.safetensors (pyramidseg classifier, with its mean and std)"
    settings = {**TINY_SETTINGS, "encoder_weights": str(weights)}
    run = train(scenes, out=tmp_path / "run", epochs=1, **settings)
    assert run.best.exists()


def test_a_stopped_run_ends_as_an_uninterrupted_one(folders: Path, tmp_path: Path) -> None:
    def pretrain(out: Path, *more: str) -> int:
        return main(["pretrain", str(folders), "--out", str(out), "train.checkpoint_steps=1", *more, *TINY])

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert pretrain(whole, "--epochs", "2") == 0
    assert pretrain(parts, "--epochs", "2") == 0
    for name in ("best.safetensors", "last.safetensors", "report.html", "metrics.csv"):
        (parts / name).unlink()
    steps = sorted((parts / "checkpoint").glob("step-*"))
    steps[-1].unlink()  # as if it had been killed before its last checkpoint
    assert main(["pretrain", str(folders), "--out", str(parts), "--resume"]) == 0
    from safetensors.torch import load_file

    first, second = load_file(whole / "last.safetensors"), load_file(parts / "last.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def write_deep_images(folder: Path, count: int) -> Path:
    """Grey images of 11 bits in files of 16, whose brightness tells their class."""
    rng = np.random.default_rng(0)
    for level, name in enumerate(COLORS, start=1):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            values = rng.normal(400 * level, 60, (40, 40)).astype(np.uint16)
            Image.fromarray(values).save(folder / name / f"{index}.png")
    return folder


def test_images_unlike_photographs_are_normalised_by_their_own_statistics(tmp_path: Path) -> None:
    folder, out = write_deep_images(tmp_path / "data", 6), tmp_path / "run"
    settings = ["model.in_channels=1", "--epochs", "1", *TINY]
    assert main(["pretrain", str(folder), "--out", str(out), *settings]) == 0
    images = [read_image(entry.image, channels=1) for entry in open_image_folders(folder).splits["train"]]
    expected = np.stack(images) / 65535
    weights = str(out / "last.safetensors")
    model = Segmenter(num_classes=2, **{**_model_settings(), "encoder_weights": weights, "in_channels": 1})
    assert float(model.mean) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(model.std) == pytest.approx(expected.std(), rel=1e-5)


def test_images_of_several_depths_are_not_mixed(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(folders, tmp_path / "data")
    Image.fromarray(np.full((40, 40), 300, np.uint16)).save(data / "val" / "red" / "deep.png")
    assert main(["pretrain", str(data), "--out", str(tmp_path / "run"), *TINY]) == 2
    assert "uint16 (red/deep.png) and uint8 (blue/0.png) images cannot be mixed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "levit_128s"], "encoder=levit_128s: its feature maps have strides [16, 32, 64]"),
        (
            ["--encoder", "test_maxvit", "--crop", "224"],
            "encoder=test_maxvit: cannot be trained on a batch of 8 x",
        ),
        (["--batch-size", "1"], "encoder=test_resnet: cannot be trained on a batch of 1 x 32x32 pixels (ValueError: "),
    ],
)
def test_what_could_not_be_trained_or_used_is_refused_before_the_run(
    folders: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", str(folders), "--out", str(tmp_path / "run"), *TINY, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


class NoDoubles(TorchDispatchMode):
    """As an Apple GPU, which has no float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        assert getattr(result, "dtype", None) != torch.float64, func
        return result


def test_validation_does_without_float64_where_there_is_none(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = {"model.encoder": "test_resnet", "data.crop": 32, "train.device": "cpu", "data.workers": 0}
    task = prepare_classification(load_config(overrides=overrides), folders)
    task.model.eval()
    expected = task.validate(task.model, batch_size=4)[0]
    monkeypatch.setattr(classification, "sum_dtype", lambda device: torch.float32)
    with NoDoubles():
        found = task.validate(task.model, batch_size=4)[0]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_run_that_goes_on_needs_no_starting_weights(folders: Path, tmp_path: Path) -> None:
    overrides = {
        "model.encoder": "test_resnet",
        "model.encoder_weights": str(tmp_path / "gone.safetensors"),
        "data.crop": 32,
        "train.device": "cpu",
    }
    origin = InitialWeights(EncoderSource("file", "gone.safetensors", (0.4,) * 3, (0.3,) * 3), (0.5,) * 3, (0.2,) * 3)
    task = prepare_classification(load_config(overrides=overrides), folders, origin)
    assert task.initial_weights.source == origin.source
    assert (task.initial_weights.mean, task.initial_weights.std) == (
        pytest.approx(origin.mean),
        pytest.approx(origin.std),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.classes=[a,b]"], "data.classes: does not apply to `pretrain`"),
        (["loss.dice=0.5"], "loss.dice: does not apply to `pretrain`"),
        (["train.watch=val_miou"], "train.watch=val_miou: not among the losses, errors and scores of metrics.csv"),
        (["optim.freeze_encoder=true"], "optim.freeze_encoder: does not apply to `pretrain`"),
        (["optim.freeze_norm=true"], "optim.freeze_norm: does not apply to `pretrain`"),
        (["optim.layer_decay=0.8"], "optim.layer_decay: does not apply to `pretrain`"),
        (["model.image_head=true"], "model.image_head: does not apply to `pretrain`"),
        (["model.finest_stride=2"], "model.finest_stride: does not apply to `pretrain`"),
        (["data.rare_class_crops=0.5"], "data.rare_class_crops: does not apply to `pretrain`"),
        (["train.reset_head=true"], "train.reset_head: does not apply to `pretrain`"),
    ],
)
def test_what_has_no_meaning_is_refused(
    folders: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", str(folders), "--out", str(tmp_path / "run"), *TINY, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_only_settings_that_exist_have_a_meaning() -> None:
    named = {f"{section}.{key}" for section, keys in CLASSIFIER_SETTINGS.items() for key in keys}
    assert named < set(SETTINGS)
    assert list(CLASSIFIER_SETTINGS) == list(Config.model_fields)


class TestImageFolders:
    @pytest.mark.parametrize(
        "names", [("images", "masks"), ("JPEGImages", "SegmentationClass"), ("leftImg8bit", "gtFine")], ids="/".join
    )
    @pytest.mark.parametrize("above", ["", "train"])
    def test_images_and_their_masks_are_not_two_classes(
        self, tmp_path: Path, above: str, names: tuple[str, str]
    ) -> None:
        for name in names:
            (tmp_path / above / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / above / name / "0.png")
        with pytest.raises(
            DataError, match=f"'{names[0]}' and '{names[1]}' are images and .* `pyramidseg train` learns"
        ):
            open_image_folders(tmp_path)

    def test_a_class_may_be_called_like_a_folder_of_masks(self, tmp_path: Path) -> None:
        write_images(tmp_path, 3)
        (tmp_path / "red").rename(tmp_path / "label")
        assert open_image_folders(tmp_path).classes == ("blue", "green", "label")

    def test_without_splits_each_class_gives_a_share(self, tmp_path: Path) -> None:
        data = open_image_folders(write_images(tmp_path / "all", 10), val_share=0.2)
        assert data.classes == ("blue", "green", "red")
        for label in range(3):
            counts = [sum(data.label(entry) == label for entry in data.splits[split]) for split in ("train", "val")]
            assert counts == [8, 2]
        assert "no val folder: 6 images" in data.notes[0]

    def test_a_name_that_a_class_has_twice_gets_its_subfolder(self, tmp_path: Path) -> None:
        root = write_images(tmp_path, 3)
        for camera in ("north", "south"):
            (root / "blue" / camera).mkdir()
            shutil.copy(root / "blue" / "0.png", root / "blue" / camera / "9.png")
        (root / "blue" / "north" / "2.png").write_bytes((root / "blue" / "2.png").read_bytes())
        ids = {record.id: record.image for images in open_image_folders(root).splits.values() for record in images}
        assert len(ids) == 12
        assert ids["blue/0.png"] == root / "blue" / "0.png"  # as before: a hash of the ids chooses the val images
        assert {id for id in ids if id.count("/") > 1} == {"blue/north/2.png", "blue/north/9.png", "blue/south/9.png"}
        assert all(image == root / "blue" / id[5:] for id, image in ids.items() if id.startswith("blue/"))

    def test_val_may_have_a_rare_name_where_there_is_train(self, tmp_path: Path) -> None:
        write_images(tmp_path / "train", 2)
        write_images(tmp_path / "eval", 3)
        assert [len(images) for images in open_image_folders(tmp_path).splits.values()] == [6, 9]

    def test_a_class_that_train_has_not_is_named(self, tmp_path: Path) -> None:
        write_images(tmp_path / "train", 2)
        write_images(tmp_path / "val", 1)
        (tmp_path / "val" / "red").rename(tmp_path / "val" / "rot")
        with pytest.raises(DataError, match="training split has no class 'rot'"):
            open_image_folders(tmp_path)

    def test_one_class_is_no_classification(self, tmp_path: Path) -> None:
        write_images(tmp_path, 2)
        for name in ("red", "green"):
            (tmp_path / name).rename(tmp_path / f".{name}")
        with pytest.raises(DataError, match=r"at least two classes, .* found 1 \(blue\)"):
            open_image_folders(tmp_path)

    def test_an_unreadable_image_stops_before_training(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_images(tmp_path / "data", 4)
        (tmp_path / "data" / "red" / "0.png").write_bytes(b"no image")
        assert main(["pretrain", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *TINY]) == 2
        assert "0.png: is not an image in a supported format" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 5))
def test_crops_have_the_size_that_is_asked_for(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert random_resized_crop(image, (16, 24), np.random.default_rng(seed)).shape == (16, 24, 3)
    assert center_crop(image, (16, 24)).shape == (16, 24, 3)


@given(st.integers(2, 9), st.integers(1, 12), st.integers(0, 99))
def test_errors_are_count_errors_as_by_a_loop(classes: int, batch: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, generator=generator)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    wrong = wrong_top = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        place = sorted(range(classes), key=lambda index: -row[index]).index(label)
        wrong += place > 0
        wrong_top += place >= 5
    assert count_errors(logits, labels).tolist() == [batch, wrong, wrong_top]


def test_a_classifiers_file_says_what_it_is(pretrained: Path) -> None:
    from safetensors import safe_open

    with safe_open(pretrained / "best.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["classes"]) == list(COLORS)
    assert metadata["encoder"] == "test_resnet"
    assert Classifier(COLORS, encoder="test_resnet").classes == tuple(COLORS)


def _model_settings() -> dict[str, object]:
    return {"encoder": "test_resnet", "pyramid_channels": 32, "segmentation_channels": 32}
