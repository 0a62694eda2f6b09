"""Checkpoints: what is kept, what damage does, what a stranger's checkpoint does."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pyramidseg.base.errors import WeightsError
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.training.checkpoint import (
    Identity,
    InitialWeights,
    TrainingProgress,
    load_checkpoint,
    restore,
    save_checkpoint,
    stored_origin,
)

MINE = Identity(settings="my settings", data="my data")
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
    return save_checkpoint(
        folder,
        TrainingProgress(step=step, history=[{"epoch": 1, "val_miou": 0.5}]),
        steps_done=step,
        model=model,
        average=None,
        optimizer=optimizer,
        tally=torch.eye(2, dtype=torch.int64),
        identity=MINE,
        origin=BEGUN,
        processes=2,
    )


def load(folder: Path) -> tuple[TrainingProgress, list[str]]:
    warnings: list[str] = []
    found = load_checkpoint(folder, identity=MINE, processes=2)
    assert found is not None
    return found[1], warnings


def test_the_origin_is_known_by_whatever_can_be_read(tmp_path: Path) -> None:
    assert stored_origin(tmp_path / "absent") is None
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    assert stored_origin(tmp_path) == BEGUN
    newest.write_bytes(b"damaged")
    assert stored_origin(tmp_path) == BEGUN


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
    found = load_checkpoint(tmp_path, identity=MINE, processes=2)
    assert found is not None
    confusion = restore(found[0], model=fresh, average=None, optimizer=fresh_optimizer)
    assert torch.equal(confusion, torch.eye(2, dtype=torch.int64))
    assert found[1] == TrainingProgress(step=7, history=[{"epoch": 1, "val_miou": 0.5}])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name])
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            assert torch.equal(value, fresh_optimizer.state_dict()["state"][index][key])


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "absent", identity=MINE, processes=2) is None


@pytest.mark.parametrize("place", [0.0, 0.2, 0.6, 0.999])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_one_is_passed_over_aloud(tmp_path: Path, damage: str, place: float) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    content = bytearray(newest.read_bytes())
    index = int(place * len(content))
    if damage == "cut":
        newest.write_bytes(content[:index])
    else:
        content[index] ^= 0x10
        newest.write_bytes(content)
    position, warnings = load(tmp_path)
    assert position.step == 1
    assert len(warnings) == 1
    assert newest.name in warnings[0]


def test_all_damaged_is_an_error(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step).write_bytes(b"nothing of the kind")
    warnings: list[str] = []
    with pytest.raises(WeightsError, match="none of its 2 checkpoints is whole"):
        load_checkpoint(tmp_path, identity=MINE, processes=2)
    assert len(warnings) == 1  # the older one has none before it


@pytest.mark.parametrize(
    ("other", "said"),
    [({"data": "their data"}, "other data .*same dataset"), ({"settings": "theirs"}, r"other settings .*config\.yaml")],
)
def test_another_runs_checkpoint_is_refused(tmp_path: Path, other: dict[str, str], said: str) -> None:
    save(tmp_path, 1)
    with pytest.raises(WeightsError, match=said):
        load_checkpoint(tmp_path, identity=replace(MINE, **other), processes=2)


def test_another_number_of_processes_is_named(tmp_path: Path) -> None:
    save(tmp_path, 1)
    with pytest.raises(WeightsError, match=r"2 processes began this run, and 1 .* \(torchrun --nproc-per-node 2\)"):
        load_checkpoint(tmp_path, identity=MINE, processes=1)
