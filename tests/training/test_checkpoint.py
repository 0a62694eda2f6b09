"""Checkpoints: what is kept, what damage does, what a stranger's checkpoint does."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from pyramidseg.base.config import Config
from pyramidseg.base.errors import WeightsError
from pyramidseg.base.overrides import load_config
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.training import checkpoint
from pyramidseg.training.checkpoint import (
    Checkpoints,
    Identity,
    load_checkpoint,
    restore_checkpoint,
    run_identity,
    stored_initial_weights,
)
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import MAY_CHANGE

MINE = Identity(settings="my settings", data="my data")
ROW = {"epoch": 1, "val_miou": 0.5, "seconds": 2.0}
BEGUN = InitialWeights(EncoderSource("file", "mine.safetensors", (0.5,), (0.25,)), (0.4,), (0.2,))


def trained(steps: int = 1) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        model(torch.rand(2, 1, 8, 8)).sum().backward()
        optimizer.step()
    return model, optimizer


def save(folder: Path, step: int, *, steps: int = 1) -> Path:
    model, optimizer = trained(steps)
    checkpoints = Checkpoints(run_in(folder), MINE, Config())
    counts = torch.eye(2, dtype=torch.int64)
    checkpoints.save(components_of(model, optimizer), TrainingProgress(epoch=1, step=step, history=[ROW]), counts)
    return folder / f"step-{step:09d}.safetensors"


def run_in(folder: Path) -> Any:
    """A run whose checkpoints are in a folder."""
    return SimpleNamespace(path=folder, checkpoints=folder)


def components_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """As much of `TrainingComponents` as checkpoints need; an epoch has no steps, so that `step` counts those done."""
    task = SimpleNamespace(initial_weights=BEGUN, empty_counts=lambda: torch.zeros(2, 2, dtype=torch.int64))
    loader = SimpleNamespace(plan=SimpleNamespace(steps=0))
    return SimpleNamespace(model=model, ema=None, optimizer=optimizer, task=task, loader=loader)


@pytest.fixture(autouse=True)
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "world_size", lambda: 2)


def load(folder: Path) -> TrainingProgress:
    found = load_checkpoint(folder, identity=MINE)
    assert found is not None
    return found[1]


def test_the_origin_is_known_by_whatever_can_be_read(tmp_path: Path) -> None:
    assert stored_initial_weights(tmp_path / "absent") is None
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    assert stored_initial_weights(tmp_path) == BEGUN
    newest.write_bytes(b"damaged")
    assert stored_initial_weights(tmp_path) == BEGUN


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, step)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-000000004.safetensors",
        "step-000000005.safetensors",
    ]


def test_model_optimizer_and_position_come_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path, 7, steps=3)
    model, optimizer = trained(3)
    fresh = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    fresh_optimizer = torch.optim.AdamW(fresh.parameters(), lr=0.1)
    progress, confusion = restore_checkpoint(run_in(tmp_path), components_of(fresh, fresh_optimizer), MINE)
    assert torch.equal(confusion, torch.eye(2, dtype=torch.int64))
    assert progress == TrainingProgress(epoch=1, step=7, history=[ROW])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name])
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            assert torch.equal(value, fresh_optimizer.state_dict()["state"][index][key])


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "absent", identity=MINE) is None


@pytest.mark.parametrize("place", [0.0, 0.2, 0.6, 0.999])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(
    tmp_path: Path, damage: str, place: float, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = bytearray(newest.read_bytes())
    index = int(place * len(content))
    if damage == "cut":
        newest.write_bytes(content[:index])
    else:
        content[index] ^= 0x10
        newest.write_bytes(content)
    assert load(tmp_path).step == 1
    (warning,) = caplog.messages
    assert newest.name in warning


def test_all_damaged_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        save(tmp_path, step).write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="all 2 checkpoints are damaged"):
        load_checkpoint(tmp_path, identity=MINE)
    assert len(caplog.messages) == 1  # there is none before the older one


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"data": "their data"}, "other data; .*same dataset"),
        ({"settings": "theirs"}, r"other settings .*config\.yaml"),
    ],
)
def test_another_runs_checkpoint_is_refused(tmp_path: Path, other: dict[str, str], said: str) -> None:
    save(tmp_path, 1)
    with pytest.raises(WeightsError, match=said):
        load_checkpoint(tmp_path, identity=replace(MINE, **other))


def test_another_number_of_processes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "world_size", lambda: 1)
    with pytest.raises(
        WeightsError, match=r"with 2 processes and cannot continue with 1.* \(torchrun --nproc-per-node 2\)"
    ):
        load_checkpoint(tmp_path, identity=MINE)


def saved_config(folder: Path, config: Config, *, without: tuple[str, str]) -> Path:
    """The config.yaml of a run, as an earlier version wrote it that did not have one of the settings."""
    tree = yaml.safe_load(config.to_yaml())
    del tree[without[0]][without[1]]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def test_a_setting_that_is_newer_than_the_run_does_not_prevent_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = ("train", "max_skipped_steps")
    earlier = saved_config(tmp_path, Config(), without=added)
    tree = Config().model_dump(mode="json")
    for section, key in (*(name.split(".") for name in MAY_CHANGE), added):
        del tree[section][key]
    then = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()  # of all settings of that version
    monkeypatch.setattr(f"{__name__}.MINE", Identity(then, "my data"))
    save(tmp_path, 3)
    now = run_identity(load_config(earlier), earlier, "my data")
    found = load_checkpoint(tmp_path, identity=now)
    assert found is not None
    assert found[1].step == 3
    changed = run_identity(load_config(earlier, {"train.epochs": 3}), earlier, "my data")
    with pytest.raises(WeightsError, match="other settings"):
        load_checkpoint(tmp_path, identity=changed)
