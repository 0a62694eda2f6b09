"""Killed at any moment and resumed, a run ends in the same bits; so do 0, 1 and 3 workers. The kills are real."""

import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from forks import WITHOUT_FIGURES, PythonProcess
from pyramidseg.cli.main import main
from pyramidseg.model.bundle import KIND
from pyramidseg.model.tensor_files import read_verified
from support import TINY

SETTINGS = (
    *TINY,
    "train.epochs=3",
    "train.batch_size=4",
    "optim.lr=0.003",
    "optim.ema=0.9",
    "loss.dice=1",
    "train.checkpoint_steps=1",
    "model.dropout=0.3",
)


def arguments(scenes: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(scenes), "--out", str(out), *SETTINGS, *more]


@pytest.fixture(scope="module")
def reference(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never interrupted."""
    out = tmp_path_factory.mktemp("reference") / "run"
    assert main(arguments(scenes, out, "data.workers=0")) == 0
    return out


def assert_same_bits(run: Path, reference: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        (tensors, facts), (expected, expected_facts) = (
            read_verified(path / name, kind=KIND) for path in (run, reference)
        )
        assert facts == expected_facts
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], expected[key]) for key in expected), name
    columns = [
        [row.split(",")[:12] for row in (path / "metrics.csv").read_text().splitlines()] for path in (run, reference)
    ]
    assert columns[0] == columns[1]


def kill_when(arguments: Sequence[str], condition: Callable[[], bool], number: signal.Signals) -> int:
    """Train in a process of its own, send it a signal as soon as the condition holds, and return its status.

    The loading workers get it too, as from terminals, schedulers and dying machines.
    """
    with PythonProcess("-c", WITHOUT_FIGURES, *arguments) as process:
        while not process.has_ended():
            if condition():
                process.send(number)
                break
            time.sleep(0.0005)
        return process.wait()


def reached(out: Path, step: int) -> bool:
    return any(int(path.stem.removeprefix("step-")) >= step for path in (out / "checkpoint").glob("step-*.safetensors"))


def is_saving(out: Path, name: str) -> bool:
    with suppress(FileNotFoundError):  # a folder is deleted meanwhile
        return any(out.rglob(f".{name}*.part"))
    return False


def test_killed_mid_epoch_mid_save_and_at_an_epochs_end(scenes: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    moments: list[Callable[[], bool]] = [
        lambda: reached(out, 2),
        lambda: reached(out, 4) and is_saving(out, "last"),
        lambda: reached(out, 11) and is_saving(out, "step-"),
    ]
    again = arguments(scenes, out, "--resume")
    ends = [kill_when([*again, "--workers", "1"], moment, signal.SIGKILL) for moment in moments]
    assert ends.count(-signal.SIGKILL) >= 2
    assert main(again) == 0
    assert_same_bits(out, reference)
    assert (out / "report.html").exists()


def test_every_augmentation_is_repeated_after_a_kill_in_mid_epoch(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("data.augment=strong", "data.vertical_flip=0.5", "data.quarter_turns=0.75", "data.copy_paste=0.8")
    more += ("data.cutout=0.8", "data.jpeg=0.8", "data.rare_class_crops=0.5", "train.epochs=1")
    more += ("data.crops_per_image=2",)
    through, stopped = arguments(scenes, tmp_path / "through", *more), arguments(scenes, tmp_path / "stopped", *more)
    assert main([*through, "--workers", "0"]) == 0
    ended = kill_when([*stopped, "--workers", "1"], lambda: reached(tmp_path / "stopped", 2), signal.SIGKILL)
    assert ended == -signal.SIGKILL
    assert main([*stopped, "--resume", "--workers", "0"]) == 0
    assert re.search(r"resumed at epoch 1, step [1-9]", capsys.readouterr().out)
    assert_same_bits(tmp_path / "stopped", tmp_path / "through")


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(scenes: Path, reference: Path, tmp_path: Path, workers: int) -> None:
    assert main(arguments(scenes, tmp_path / "run", "--workers", str(workers))) == 0
    assert_same_bits(tmp_path / "run", reference)


def test_a_polite_stop_saves_at_the_steps_end(
    scenes: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = arguments(scenes, out, "train.checkpoint_steps=0", "train.checkpoint_minutes=0")
    assert kill_when(words, lambda: (out / "metrics.csv").exists(), signal.SIGINT) == 130
    assert reached(out, 5), "nothing but the stop itself saves here, after the first epoch's 5 steps"
    assert main([*words, "--resume"]) == 0
    assert "resumed at epoch" in capsys.readouterr().out
    assert_same_bits(out, reference)


@pytest.mark.parametrize("kind", ["encoder", "whole"])
def test_starting_weights_are_not_needed_again(
    scenes: Path, reference: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "start.safetensors"
    if kind == "encoder":
        torch.manual_seed(1)
        save_file(timm.create_model("test_resnet").state_dict(), weights)
        more = (f"model.encoder_weights={weights}", "train.epochs=1")
    else:
        weights.write_bytes((reference / "last.safetensors").read_bytes())
        more = (f"model.weights={weights}", "train.epochs=1")
    through, stopped = arguments(scenes, tmp_path / "through", *more), arguments(scenes, tmp_path / "stopped", *more)
    assert main(through) == 0
    assert kill_when(stopped, lambda: reached(tmp_path / "stopped", 2), signal.SIGKILL) == -signal.SIGKILL
    weights.unlink()
    assert main([*stopped, "--resume"]) == 0
    assert "resumed at epoch 1" in capsys.readouterr().out
    assert_same_bits(tmp_path / "stopped", tmp_path / "through")


def test_a_damaged_checkpoint_costs_one_checkpoint_only(
    scenes: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert kill_when(arguments(scenes, out), lambda: reached(out, 3), signal.SIGTERM) == 130
    newest = max((out / "checkpoint").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    assert main(arguments(scenes, out, "--resume")) == 0
    assert f"warning: {newest}" in capsys.readouterr().err
    assert_same_bits(out, reference)


def test_resuming_where_nothing_was_saved_starts_from_scratch(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(scenes), "--out", str(tmp_path / "run"), "--resume", *TINY, "train.epochs=1"]) == 0
    assert "no checkpoint yet; training starts from scratch" in capsys.readouterr().out


def test_a_finished_run_is_left_as_it_is(scenes: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file()}
    assert main(["train", str(scenes), "--out", str(reference), "--resume"]) == 0
    assert "finished" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file()} == before


def test_a_resumed_run_keeps_its_settings(scenes: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(scenes), "--out", str(reference), "--resume", "--lr", "0.5"]) == 2
    error = capsys.readouterr().err
    assert "optim.lr was 0.003" in error
    assert error.count("\n") == 1


def test_joined_datasets_with_shares(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "both.yaml"
    entry = f"{{path: {scenes}, name: %s, share: %s, rename: {{road: %s}}}}"
    file.write_text(f"sources:\n- {entry % ('a', 1, 'road')}\n- {entry % ('b', 2, 'way')}\n")
    more = ("train.epochs=2", "data.workers=1", "data.allow_leak=true")
    through, stopped = arguments(file, tmp_path / "through", *more), arguments(file, tmp_path / "stopped", *more)
    assert main(through) == 0
    assert "crops of an epoch, by set: 13, 27" in capsys.readouterr().out
    header = (tmp_path / "through" / "metrics.csv").read_text().splitlines()[0]
    assert "val_miou_a,val_miou_b" in header
    assert kill_when(stopped, lambda: reached(tmp_path / "stopped", 4), signal.SIGKILL) == -signal.SIGKILL
    assert main([*stopped, "--resume"]) == 0
    assert "resumed at epoch" in capsys.readouterr().out
    assert_same_bits(tmp_path / "stopped", tmp_path / "through")
    file.write_text(file.read_text().replace("share: 2", "share: 3"))
    assert main([*stopped, "--resume"]) == 2
    assert "the run was started with other data" in capsys.readouterr().err
