"""Killed at any moment and resumed, a run ends in the same bits; so do 0, 1 and 3 workers. With real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from pyramidseg.model.bundle import KIND
from pyramidseg.model.tensor_files import read_verified
from support import TINY, CommandLine, process_environment

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
STEPS = 15


def command(scenes: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "pyramidseg", "train", str(scenes), "--out", str(out), *SETTINGS, *more]


@pytest.fixture(scope="module")
def reference(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, never interrupted."""
    out = tmp_path_factory.mktemp("reference") / "run"
    subprocess.run(command(scenes, out, "data.workers=0"), check=True, env=process_environment(), capture_output=True)
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
    """Start a process, send it a signal as soon as the condition holds, and return its status."""
    process = subprocess.Popen(
        arguments, env=process_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not condition():
        assert time.monotonic() < deadline, "the process did not come that far"
        time.sleep(0.0005)
    if process.poll() is None:
        os.killpg(process.pid, number)  # the loading workers too, as terminals, schedulers and dying machines do
    process.communicate(timeout=120)
    return process.returncode


def reached(out: Path, step: int) -> bool:
    return any(int(path.stem.removeprefix("step-")) >= step for path in (out / "checkpoint").glob("step-*.safetensors"))


def is_saving(out: Path, name: str) -> bool:
    return any(out.rglob(f".{name}*.part"))


def test_killed_mid_epoch_mid_save_and_at_an_epochs_end(scenes: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    moments: list[Callable[[], bool]] = [
        lambda: reached(out, 2),
        lambda: reached(out, 4) and is_saving(out, "step-"),
        lambda: reached(out, 6) and is_saving(out, "last"),
        lambda: reached(out, 11) and is_saving(out, "step-"),
    ]
    ends = [kill_when(command(scenes, out, "--resume", "--workers", "1"), moment, signal.SIGKILL) for moment in moments]
    assert ends.count(-signal.SIGKILL) >= 3
    finished = subprocess.run(
        command(scenes, out, "--resume"), env=process_environment(), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert_same_bits(out, reference)
    assert (out / "report.html").exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_changes_nothing(scenes: Path, reference: Path, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "run"
    arguments = command(scenes, out, "--workers", str(workers))
    subprocess.run(arguments, check=True, env=process_environment(), capture_output=True)
    assert_same_bits(out, reference)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_stop_saves_at_the_steps_end(
    scenes: Path, reference: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    arguments = command(scenes, out, "train.checkpoint_steps=0", "train.checkpoint_minutes=0")
    assert kill_when(arguments, lambda: (out / "metrics.csv").exists(), number) == 130
    assert reached(out, 5), "nothing but the stop itself saves here, after the first epoch's 5 steps"
    again = subprocess.run(
        [*arguments, "--resume"], env=process_environment(), capture_output=True, text=True, check=False
    )
    assert "resumed at epoch" in again.stdout
    assert_same_bits(out, reference)


@pytest.mark.parametrize("kind", ["encoder", "whole"])
def test_starting_weights_are_not_needed_again(scenes: Path, reference: Path, tmp_path: Path, kind: str) -> None:
    weights = tmp_path / "start.safetensors"
    if kind == "encoder":
        torch.manual_seed(1)
        save_file(timm.create_model("test_resnet").state_dict(), weights)
        more = (f"model.encoder_weights={weights}", "train.epochs=1")
    else:
        weights.write_bytes((reference / "last.safetensors").read_bytes())
        more = (f"model.weights={weights}", "train.epochs=1")
    through, stopped = command(scenes, tmp_path / "through", *more), command(scenes, tmp_path / "stopped", *more)
    subprocess.run(through, check=True, env=process_environment(), capture_output=True)
    assert kill_when(stopped, lambda: reached(tmp_path / "stopped", 2), signal.SIGKILL) == -signal.SIGKILL
    weights.unlink()
    again = subprocess.run(
        [*stopped, "--resume"], env=process_environment(), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "resumed at epoch 1" in again.stdout
    assert_same_bits(tmp_path / "stopped", tmp_path / "through")


def test_a_damaged_checkpoint_costs_one_checkpoint_only(scenes: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kill_when(command(scenes, out), lambda: reached(out, 3), signal.SIGTERM)
    newest = max((out / "checkpoint").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    again = subprocess.run(
        command(scenes, out, "--resume"), env=process_environment(), capture_output=True, text=True, check=False
    )
    assert again.returncode == 0
    assert f"warning: {newest}" in again.stderr
    assert_same_bits(out, reference)


def test_resuming_where_nothing_was_saved_starts_anew_aloud(
    scenes: Path, tmp_path: Path, pyramidseg: CommandLine
) -> None:
    result = pyramidseg("train", scenes, "--out", tmp_path / "run", "--resume", *TINY, "train.epochs=1")
    assert result.returncode == 0, result.stderr
    assert "no checkpoint yet; training starts from scratch" in result.stdout


def test_a_finished_run_is_left_as_it_is(scenes: Path, reference: Path, pyramidseg: CommandLine) -> None:
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file()}
    result = pyramidseg("train", scenes, "--out", reference, "--resume")
    assert result.returncode == 0, result.stderr
    assert "finished" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("*") if path.is_file()} == before


def test_a_resumed_run_keeps_its_settings(scenes: Path, reference: Path, pyramidseg: CommandLine) -> None:
    result = pyramidseg("train", scenes, "--out", reference, "--resume", "--lr", "0.5")
    assert result.returncode == 2
    assert "optim.lr was 0.003" in result.stderr
    assert result.stderr.count("\n") == 1
