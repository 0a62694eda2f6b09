"""Checkpoints with a right checksum and content that this version cannot use: one line, and nothing is restored."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pyramidseg.base.config import Config
from pyramidseg.base.errors import WeightsError
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.tensor_files import read_verified, write_tensors
from pyramidseg.training.checkpoint import (
    KIND,
    Checkpoints,
    Identity,
    load_checkpoint,
    restore_checkpoint,
)
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.muon import Muon
from pyramidseg.training.progress import TrainingProgress

MINE = Identity("settings", "data")
ROW = {"epoch": 1, "val_miou": None, "seconds": 1.5}
BEGUN = InitialWeights(EncoderSource("random", "random", (0.5,), (0.25,)), (0.4,), (0.2,))
DEEP = "[" * 100_000 + "]" * 100_000


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def optimizer_of(model, kind):
    if kind == "muon":
        matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim == 1]
        return Muon([{"params": matrices, "orthogonal": True}, {"params": others}], lr=0.1)
    return (
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        if kind == "sgd"
        else torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    )


def saved(folder: Path, kind="adamw") -> Path:
    model = network()
    optimizer = optimizer_of(model, kind)
    model(torch.rand(2, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    progress = TrainingProgress(epoch=1, history=[ROW], best=0.5, best_epoch=0)
    checkpoints = Checkpoints(run_in(folder), MINE, Config())
    checkpoints.save(components_of(model, network(), optimizer), progress, torch.eye(2, dtype=torch.int64))
    return folder / "step-000000007.safetensors"


def run_in(folder: Path):
    """A run whose checkpoints are in a folder."""
    return SimpleNamespace(path=folder, checkpoints=folder)


def components_of(model, ema, optimizer):
    """As much of `TrainingComponents` as checkpoints need, with seven steps an epoch."""
    task = SimpleNamespace(initial_weights=BEGUN, empty_counts=lambda: torch.zeros(2, 2, dtype=torch.int64))
    loader = SimpleNamespace(plan=SimpleNamespace(steps=7))
    return SimpleNamespace(model=model, ema=SimpleNamespace(model=ema), optimizer=optimizer, task=task, loader=loader)


def rewrite(path: Path, *, tensors=None, metadata=None) -> None:
    """Change a checkpoint, with a right checksum; a value of None removes."""
    old_tensors, old_metadata = read_verified(path, kind=KIND)
    merged = {**old_tensors, **(tensors or {})}, {**old_metadata, **(metadata or {})}
    write_tensors(path, *({key: value for key, value in part.items() if value is not None} for part in merged))


def position(**changes):
    content = {**vars(TrainingProgress(epoch=1, history=[ROW])), **changes}
    return json.dumps({key: value for key, value in content.items() if value != "absent"})


@pytest.mark.parametrize(
    "metadata",
    [
        {"position": None},
        {"settings": None},
        {"data": None},
        {"processes": None},
        {"position": "{"},
        {"position": "[]"},
        {"position": "null"},
        {"position": DEEP},
        {"position": f'{{"epoch": {DEEP}}}'},
        {"position": position(epoch=-1)},
        {"position": position(epoch=2)},
        {"position": position(step=-1)},
        {"position": position(largest_batch=0)},
        {"position": position(largest_val_batch=0)},
        {"position": position(step="many")},
        {"position": position(best_epoch=1)},
        {"position": position(history=[3])},
        {"position": position(history=[{"epoch": 1}])},
        {"position": position(history=[{**ROW, "val_miou": [1]}])},
        {"position": position(epoch=2, history=[ROW, {"epoch": 2, "seconds": 1.0}])},
        {"position": position(telepathy=True)},
        {"origin": "{}"},
        {"origin": DEEP},
        {"origin": json.dumps({"source": DEEP, "mean": [0.5], "std": [0.5]})},
        {"origin": json.dumps({"source": BEGUN.source.to_json(), "mean": 0.5, "std": [0.5]})},
    ],
)
def test_other_metadata_are_one_line(tmp_path, metadata):
    rewrite(saved(tmp_path), metadata=metadata)
    with pytest.raises(
        WeightsError, match=r"step-000000007\.safetensors: a checkpoint that this version .* cannot"
    ) as e:
        load_checkpoint(tmp_path, identity=MINE)
    assert "\n" not in str(e.value) and len(str(e.value)) < 700 and "`overwrite=True` starts again" in str(e.value)


def test_an_older_checkpoint_without_the_origin_is_read(tmp_path):
    rewrite(saved(tmp_path), metadata={"origin": None})
    assert load_checkpoint(tmp_path, identity=MINE) is not None


def attempt(folder, kind="adamw"):
    model, ema = network(), network()
    optimizer = optimizer_of(model, kind)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        return restore_checkpoint(run_in(folder), components_of(model, ema, optimizer), MINE)[1]
    except WeightsError:
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert not optimizer.state
        raise


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"model/0.weight": None}, r"1 absent: 0\.weight"),
        ({"average/0.weight": None}, r"average: .*1 absent: 0\.weight"),
        ({"model/0.weight": torch.rand(2, 1, 5, 5)}, "2x1x5x5 instead of 2x1x3x3"),
        ({"model/0.bias": torch.ones(2, dtype=torch.int64)}, "2 of integers"),
        ({"model/0.bias": torch.tensor([1.0, torch.nan])}, "NaN or infinite"),
        ({"average/1.running_var": torch.tensor([1.0, -1.0])}, "negative variances"),
        ({"model/9.weight": torch.ones(1)}, r"1 unknown: 9\.weight"),
        ({"tally": None}, "counts"),
        ({"tally": torch.eye(3, dtype=torch.int64)}, r"\[3, 3\] of torch\.int64 instead of \[2, 2\]"),
        ({"tally": torch.eye(2)}, "float32 instead of"),
        ({"tally": -torch.eye(2, dtype=torch.int64)}, "negative"),
        ({"optimizer/99/exp_avg": torch.ones(2)}, "the optimizer has 4 parameters"),
        ({"optimizer/-1/exp_avg": torch.ones(2)}, "the optimizer has 4 parameters"),
        ({"optimizer/x": torch.ones(2)}, "the optimizer has 4 parameters"),
        ({"optimizer/0/exp_avg": torch.ones(5)}, r"\[5\] of torch\.float32 instead of \[2, 1, 3, 3\]"),
        ({"optimizer/0/step": torch.ones(5)}, r"\[5\] of torch\.float32 instead of \[\]"),
        ({"optimizer/0/exp_avg": torch.ones(2, 1, 3, 3, dtype=torch.bool)}, "torch.bool"),
        (
            {"optimizer/0/exp_avg": torch.full((2, 1, 3, 3), torch.nan)},
            "optimizer/0/exp_avg: holds values that are not",
        ),
        ({"optimizer/0/exp_avg_sq": torch.full((2, 1, 3, 3), torch.inf)}, "not finite"),
        ({"optimizer/0/step": torch.tensor(-torch.inf)}, "not finite"),
        ({"optimizer/0/step": torch.tensor(-1e30)}, "or negative"),
        ({"optimizer/0/exp_avg_sq": torch.full((2, 1, 3, 3), -1e-9)}, "or negative"),
        ({"optimizer/0/exp_avg_sq": None}, r"\['exp_avg', 'step'\] instead of"),
        ({"optimizer/0/momentum": torch.ones(2, 1, 3, 3)}, r"instead of \['exp_avg', 'exp_avg_sq', 'step'\]"),
    ],
)
def test_other_tensors_are_refused_and_none_is_restored(tmp_path, tensors, message):
    rewrite(saved(tmp_path), tensors=tensors)
    with pytest.raises(ValueError, match=message):
        attempt(tmp_path)


@pytest.mark.parametrize("kind", ["adamw", "sgd", "muon"])
def test_its_own_checkpoint_is_restored_and_that_of_another_optimizer_is_not(tmp_path, kind):
    saved(tmp_path, kind)
    assert torch.equal(attempt(tmp_path, kind), torch.eye(2, dtype=torch.int64))
    for other in {"adamw", "sgd"} - {kind}:
        with pytest.raises(ValueError, match="instead of"):
            attempt(tmp_path, other)
