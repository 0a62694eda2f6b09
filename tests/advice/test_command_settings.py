"""Settings and flags that messages of the commands name: followed on the command line, without training."""

import html
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from followed import Terminal, settings_in
from support import TINY

FILES = Path(__file__).parents[1] / "compatibility" / "files"
BUNDLE, SCENES = FILES / "trained.safetensors", FILES / "scenes"


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of 64 x 64 pixels, each with both classes."""
    root = tmp_path_factory.mktemp("made")
    random = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for name in "abcd":
        Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(np.resize(np.array([0, 1], np.uint8), (64, 64))).save(root / "masks" / f"{name}.png")
    return root


def replaced(words: list[str], name: str, value: str | None) -> list[str]:
    """The words with another value of one setting, or without it."""
    kept = [word for word in words if not word.startswith(f"{name}=")]
    return kept if value is None else [*kept, f"{name}={value}"]


DRY_RUNS = {
    # given settings; the advice; the setting to change; its new value (None leaves it out); what is printed
    "misspelt": (["data.crpo=32"], r"did you mean '(data\.crop)'", "data.crpo", None, "crops of 64x64"),
    "frozen": (["optim.unfreeze_epoch=2"], r"set (freeze_encoder)", "optim.freeze_encoder", "true", "dry run"),
    "frozen stages": (["optim.unfreeze_epoch=2"], r"or (freeze_stages) too", "optim.freeze_stages", "1", "dry run"),
    "too many stages": (["optim.freeze_stages=9"], r"choose 0 to (5)", "optim.freeze_stages", "5", "dry run"),
    "weights of classes": (
        ["loss.class_weights=[1,2,3]"], r"give (one per class)", "loss.class_weights", "[1,2]", "class weights 1, 2",
    ),
    "no loss": (
        ["loss.cross_entropy=0", "loss.dice=0"], r"give at least one a (weight)", "loss.dice", "1", "dry run",
    ),
    "watch": (["train.watch=val_mio"], r"did you mean '(val_miou)'", "train.watch", "val_miou", "dry run"),
    "channels": (["model.in_channels=4"], r"model\.in_channels=(3)", "model.in_channels", "3", "mean 0.485, 0.456"),
    "bands and channels": (
        ["data.bands=[1,2]", "model.in_channels=3"], r"(remove) model\.in_channels", "model.in_channels", None, "dry",
    ),
    "bands and channels agree": (
        ["data.bands=[1,2]", "model.in_channels=3"], r"or make the two (agree)", "model.in_channels", "2", "dry run",
    ),
    "bands from 1": (["data.bands=[4]"], r"bands count from (1)", "data.bands", "[1]", "dry run"),
    "group norm": (
        ["model.norm=group", "model.segmentation_channels=48"], r"or norm=(batch)", "model.norm", "batch", "dry run",
    ),
    "multiple of 32": (
        ["model.norm=group", "model.segmentation_channels=48"], r"multiple of (32): choose one",
        "model.segmentation_channels", "64", "dry run",
    ),
    "input bands": (["model.input_bands=[1,2]"], r"make them (agree)", "model.in_channels", "2", "dry run"),
    "batch norm of one value": (
        ["data.crop=32", "train.batch_size=1"], r"use a batch of at least (3)", "train.batch_size", "3", "32x32",
    ),
    "a crop above the stride": (
        ["data.crop=32", "train.batch_size=1"], r"a crop above (32)", "data.crop", "33", "33x33",
    ),
    "no tag in the name": (
        ["model.encoder=resnet18.tv_in1k", "model.encoder_weights=none"], r"encoder=(resnet18) ",
        "model.encoder", "resnet18", "resnet18 FPN",
    ),
    "no depth next to a full name": (
        ["model.encoder=resnet18", "model.encoder_depth=50"], r"(leave) encoder_depth out", "model.encoder_depth", None,
        "resnet18 FPN",
    ),
    "a network": (["model.encoder=resnt18"], r"did you mean '(resnet18)'", "model.encoder", "resnet18", "resnet18 FPN"),
    "val share": (["data.val_share=2"], r"(less than|at most|between|below)", "data.val_share", "0.5", "2 training"),
    "a group": (["data.group='^x'"], r"does not (match)", "data.group", "'^.'", "whole sequences"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRY_RUNS)
def test_settings_that_a_refusal_names_are_taken(terminal: Terminal, data: Path, name: str) -> None:
    given, advice, setting, value, printed = DRY_RUNS[name]
    words = [*TINY, *given]
    text = terminal("train", data, "--dry-run", *words, status=2)
    match = re.search(advice, text)
    assert match, text
    followed = terminal("train", data, "--dry-run", *replaced(words, setting, value))
    assert re.search(printed, followed), followed


def test_batch_norm_of_one_value_is_avoided_by_a_frozen_encoder_and_group_norm(terminal: Terminal, data: Path) -> None:
    words = ["train", data, "--dry-run", *TINY, "data.crop=32", "train.batch_size=1"]
    text = terminal(*words, status=2)
    assert "freeze the encoder and set norm=group" in text
    assert "crops of 32x32" in terminal(*words, "optim.freeze_encoder=true", "model.norm=group")


def test_a_bundle_of_other_classes_keeps_all_but_the_classifier(terminal: Terminal, data: Path) -> None:
    text = terminal("train", data, "--dry-run", "--weights", BUNDLE, status=2)
    flag = re.search(r"(--reset-head) reinitialises", text)[1]
    printed = terminal("train", data, "--dry-run", "--weights", BUNDLE, flag)
    assert "140 of 142 tensors loaded; reinitialised: classifier.weight, classifier.bias" in printed


def test_an_encoder_next_to_a_bundle_is_removed(terminal: Terminal) -> None:
    text = terminal("train", SCENES, "--dry-run", "--weights", BUNDLE, "model.encoder=resnet18", status=2)
    assert "remove model.encoder and model.encoder_depth" in text
    assert "test_efficientnet FPN" in terminal("train", SCENES, "--dry-run", "--weights", BUNDLE)


def test_the_val_share_of_a_dataset_with_a_val_split_is_left_out(terminal: Terminal) -> None:
    assert "leave it out" in terminal("train", SCENES, "--dry-run", *TINY, "data.val_share=0.3", status=2)
    printed = terminal("train", SCENES, "--dry-run", *TINY)
    assert "train: 6 images" in printed and "val: 2 images" in printed


def test_copies_in_val_are_accepted_by_the_setting_or_removed(terminal: Terminal, tmp_path: Path) -> None:
    root = shutil.copytree(SCENES, tmp_path / "data")
    for kind in ("images", "masks"):
        shutil.copy(root / "train" / kind / "scene_0000.png", root / "val" / kind / "copy.png")
    text = terminal("train", root, "--dry-run", *TINY, status=2)
    (setting,) = settings_in(text)
    assert "1 of the 3 val images" in text and setting == "data.allow_leak=true"
    assert "val: 3 images" in terminal("train", root, "--dry-run", *TINY, setting)
    for kind in ("images", "masks"):
        (root / "val" / kind / "copy.png").unlink()
    assert "val: 2 images" in terminal("train", root, "--dry-run", *TINY)


SIZES = [
    (["--tile", "100"], "--tile"),
    (["--tile", "30"], "--tile"),
    (["--tile", "128", "--overlap", "100"], "--overlap"),
    (["--tile", "128", "--overlap", "50"], "--overlap"),
    (["--tile", "128", "--overlap", "96"], "--tile"),
]


@pytest.mark.parametrize(("given", "flag"), SIZES)
def test_sizes_of_tiles_that_are_tried(
    terminal: Terminal, data: Path, tmp_path: Path, given: list[str], flag: str
) -> None:
    text = terminal("predict", BUNDLE, data / "images", "--out", tmp_path / "p", *given, status=2)
    numbers = re.findall(rf"choose .*?{flag} (\d+)", text) or re.search(r"try (\d+) or (\d+)", text).groups()
    for number in numbers:
        words = [*given[: given.index(flag)], flag, number, *given[given.index(flag) + 2 :]]
        printed = terminal("predict", BUNDLE, data / "images", "--out", tmp_path / number, *words)
        assert "4 of 4 images predicted" in printed
        with Image.open(tmp_path / number / "a.png") as labels:
            assert labels.size == (64, 64)


def test_an_output_that_does_not_exist_gets_the_nearest(terminal: Terminal, data: Path, tmp_path: Path) -> None:
    text = terminal("predict", BUNDLE, data / "images", "--out", tmp_path / "p", "--save", "overlays", status=2)
    nearest = re.search(r"did you mean '(\w+)'", text)[1]
    terminal("predict", BUNDLE, data / "images", "--out", tmp_path / "p", "--save", nearest)
    assert len(list((tmp_path / "p").rglob("*overlay*"))) == 4


def test_a_geotiff_of_images_without_a_place_is_left_out(terminal: Terminal, data: Path, tmp_path: Path) -> None:
    words = ("predict", BUNDLE, data / "images", "--out", tmp_path / "p")
    assert "leave geotiff out of --save" in terminal(*words, "--save", "geotiff", status=3)
    assert "4 of 4 images predicted" in terminal(*words)


@pytest.mark.parametrize(
    ("command", "words", "kept"),
    [
        ("inspect", (), "inspection.html"),
        ("convert", ("--to", "yolo"), "data.yaml"),
        ("train", (*TINY, "--dry-run"), "own.txt"),
    ],
)
def test_another_out_or_overwrite(
    terminal: Terminal, data: Path, tmp_path: Path, command: str, words: tuple[str, ...], kept: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "own.txt").write_text("mine")
    (out / kept).write_text("mine")
    text = terminal(command, data, *words, "--out", out, status=2)
    assert "choose another --out" in text
    terminal(command, data, *words, "--out", tmp_path / "another")
    assert (out / kept).read_text() == "mine"
    if "--overwrite" in text:
        terminal(command, data, *words, "--out", out, "--overwrite")
        assert (out / kept).read_text() != "mine" and (out / "own.txt").read_text() == "mine"


def test_the_command_of_an_inspection_trains_on_what_it_proposes(
    terminal: Terminal, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my reports"
    terminal("inspect", data, "--out", folder)
    page = html.unescape((folder / "inspection.html").read_text())
    command = next(line for line in re.findall(r"pyramidseg train [^\n<]*", page) if "--out RUN" in line)
    words = shlex.split(command.replace("RUN", str(tmp_path / "run")))
    assert words[0] == "pyramidseg"
    printed = terminal(*words[1:], "--dry-run", *TINY[:-1])
    assert "3 training images" in printed


WRONG_MODELS = [
    ("predict", SCENES / "val" / "images" / "scene_0006.png", "an image"),
    ("predict", SCENES / "val" / "images", "a folder"),
    ("predict", SCENES / "dataset.yaml", "a text file"),
    ("evaluate", SCENES, "a folder"),
    ("evaluate", SCENES / "dataset.yaml", "a text file"),
]


@pytest.mark.parametrize(("command", "given", "named"), WRONG_MODELS)
def test_a_model_that_is_given_last_is_given_first(
    terminal: Terminal, tmp_path: Path, command: str, given: Path, named: str
) -> None:
    out = ("--out", tmp_path / "out")
    text = terminal(command, given, BUNDLE, *out, status=2)
    assert named in text and "the model, such as RUN/best.safetensors, is the first argument" in text
    source = SCENES / "val" / "images" if named == "a text file" and command == "predict" else given
    printed = terminal(command, BUNDLE, source, *out)
    assert re.search(r"mIoU 0\.0922|(\d) of \1 images predicted", printed)


@pytest.mark.parametrize("suffix", [".JPG", ".tif", ".webp"])
def test_an_image_of_any_kind_is_not_called_a_damaged_model(terminal: Terminal, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"photo{suffix}"
    Image.new("RGB", (64, 64)).save(file)
    for words in (
        ("export", file, "--format", "onnx"),
        ("benchmark", file),
        ("train", SCENES, "--weights", file, "--dry-run"),
    ):
        text = terminal(*words, status=2)
        assert "not a pyramidseg bundle, but an image: the model" in text and "damaged" not in text
