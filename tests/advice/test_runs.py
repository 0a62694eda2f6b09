"""Flags, commands and files that messages about runs, bundles and exports name: followed with small trainings."""

import csv
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from followed import Terminal
from pyramidseg.predict.predictor import Predictor
from support import TINY

FILES = Path(__file__).parents[1] / "compatibility" / "files"
BUNDLE, SCENES = FILES / "trained.safetensors", FILES / "scenes"
SETTINGS = (*TINY, "train.epochs=1", "train.batch_size=6", "data.workers=0", "optim.lr=0.01")


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    from pyramidseg.cli.main import main

    out = tmp_path_factory.mktemp("made") / "run"
    assert main(["train", str(SCENES), "--out", str(out), *SETTINGS]) == 0
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(finished, tmp_path / "my run")


def epochs(run: Path) -> int:
    with (run / "metrics.csv").open() as file:
        return len(list(csv.DictReader(file)))


def labels(model: Path) -> bytes:
    return Predictor(model, device="cpu").predict(SCENES / "val" / "images" / "scene_0006.png").labels.tobytes()


def test_a_folder_that_exists_is_resumed_or_overwritten(terminal: Terminal, run: Path) -> None:
    words = ("train", SCENES, "--out", run, *SETTINGS)
    text = terminal(*words, status=2)
    assert [*re.findall(r"--\w+", text)] == ["--resume", "--overwrite", "--out"]
    before = (run / "best.safetensors").read_bytes()
    terminal(*words, "--resume")
    assert (run / "best.safetensors").read_bytes() == before and epochs(run) == 1
    assert "give only one of them" in terminal(*words, "--resume", "--overwrite", status=2)
    terminal(*words, "optim.lr=0.001", "--overwrite")
    assert (run / "best.safetensors").read_bytes() != before


def test_a_file_that_training_does_not_write_is_moved_elsewhere(terminal: Terminal, run: Path, tmp_path: Path) -> None:
    (run / "notes.txt").write_text("mine")
    words = ("train", SCENES, "--out", run, *SETTINGS, "--overwrite")
    name = re.search(r"contains (\S+),", terminal(*words, status=2))[1]
    (run / name).rename(tmp_path / name)
    terminal(*words)
    assert (tmp_path / "notes.txt").read_text() == "mine" and epochs(run) == 1


def test_more_epochs_after_the_end_are_trained_by_the_command_that_is_shown(terminal: Terminal, run: Path) -> None:
    text = terminal("train", SCENES, "--out", run, *SETTINGS[:-4], "--resume", "train.epochs=2", status=2)
    line = text.partition("go on from its weights: ")[2].splitlines()[0]
    new = run.with_name("longer")
    command = [{"DATASET": str(SCENES), "NEW": str(new)}.get(word, word) for word in shlex.split(line)]
    assert command[:2] == ["pyramidseg", "train"]
    printed = terminal(*command[1:])
    assert epochs(new) == 2
    assert re.search(r"weights .*last\.safetensors: \d+ of \d+ tensors loaded$", printed, re.MULTILINE)
    assert yaml.safe_load((new / "config.yaml").read_text())["optim"]["lr"] == 0.01


def test_a_setting_that_changed_is_removed(terminal: Terminal, run: Path) -> None:
    words = ("train", SCENES, "--out", run, "--resume")
    text = terminal(*words, "optim.lr=0.5", status=2)
    assert "remove it, or start a new run" in text
    terminal(*words)
    assert epochs(run) == 1


@pytest.mark.parametrize("remedy", ["restore the file", "--overwrite"])
def test_a_finished_run_without_its_bundle(terminal: Terminal, run: Path, finished: Path, remedy: str) -> None:
    (run / "best.safetensors").unlink()
    words = ("train", SCENES, "--out", run, *SETTINGS)
    assert "best.safetensors: no such file" in terminal(*words, "--resume", status=2)
    if remedy == "restore the file":
        shutil.copy(finished / "best.safetensors", run)
        terminal(*words, "--resume")
        assert labels(run / "best.safetensors") == labels(finished / "best.safetensors")
    else:
        terminal(*words, "--overwrite")
        assert (run / "best.safetensors").is_file()


def miou(text: str) -> str:
    return re.search(r"mIoU (\S+),", text)[1]


def test_classes_that_mean_the_same_are_renamed(terminal: Terminal, tmp_path: Path) -> None:
    root = shutil.copytree(SCENES, tmp_path / "data")
    right = terminal("evaluate", BUNDLE, root)
    file = root / "dataset.yaml"
    own = file.read_text()
    file.write_text(own.replace("road", "street"))
    text = terminal("evaluate", BUNDLE, root, status=2)
    mine, models = re.search(r"only in the dataset: '?(\w+)'?; only in the model: '?(\w+)'?;", text).groups()
    file.write_text(file.read_text().replace(mine, models))
    assert miou(terminal("evaluate", BUNDLE, root)) == miou(right)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        pytest.param(lambda run: run, r"in a run's folder the model is (\S.*?)(?:\n|$)", id="the folder of a run"),
        pytest.param(
            lambda run: next((run / "checkpoint").glob("*")),
            r"the run's models are (best\.safetensors)",
            id="a checkpoint",
        ),
    ],
)
def test_the_model_of_a_run_is_named(
    terminal: Terminal, run: Path, tmp_path: Path, model: Callable[[Path], Path], name: str
) -> None:
    if not (run / "checkpoint").exists():
        shutil.copytree(FILES / "stopped_run" / "checkpoint", run / "checkpoint")
    words = (SCENES / "val" / "images", "--out", tmp_path / "out")
    text = terminal("predict", model(run), *words, status=2)
    named = re.search(name, text)
    assert named, text
    terminal("predict", run / named[1], *words)
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_a_whole_model_is_given_with_weights(terminal: Terminal) -> None:
    words = ("train", SCENES, "--dry-run")
    text = terminal(*words, "--encoder", "test_efficientnet", "--encoder-weights", BUNDLE, status=2)
    flag = re.search(r"set (weights) instead of encoder_weights", text)
    assert flag, text
    assert "142 of 142 tensors loaded" in terminal(*words, f"--{flag[1]}", BUNDLE)


def test_the_command_of_an_export_keeps_blanks_in_the_path(terminal: Terminal, tmp_path: Path) -> None:
    """Exports themselves are made in tests/export, with these words."""
    bundle = Path(shutil.copy(BUNDLE, tmp_path / "my model.safetensors"))
    words = ("predict", bundle, SCENES / "val" / "images", "--backend", "onnxruntime", "--out", tmp_path / "out")
    command = terminal(*words, status=2).partition("; run ")[2].splitlines()[0]
    assert shlex.split(command) == ["pyramidseg", "export", str(bundle), "--format", "onnx"]
