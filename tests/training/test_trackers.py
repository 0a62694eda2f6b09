"""Trackers: single names and lists, a missing library, one that fails, and TensorBoard's values."""

import logging
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pyramidseg.base.errors import ConfigError, MissingExtra
from pyramidseg.base.overrides import load_config
from pyramidseg.training import trackers
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.segmentation_training import train
from pyramidseg.training.trackers import Trackers, check_trackers
from support import TINY_SETTINGS

ROW = {"epoch": 1, "val_miou": 0.5, "train_loss": None, "skipped_steps": 2}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


class Fragile:
    """A tracker that fails in its second epoch."""

    id = "run-7"
    calls: list[Any] = []

    def __init__(self, config: object, run: RunFolder, id: str) -> None:
        self.calls.append(("open", id))

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        self.calls.append((epoch, dict(values)))
        if epoch == 2:
            raise OSError("connection reset\nby peer")

    def close(self, *, finished: bool) -> None:
        self.calls.append(("close", finished))


def test_names() -> None:
    assert load_config().train.track == ("tensorboard",)
    assert load_config(overrides={"train.track": "mlflow"}).train.track == ("mlflow",)
    assert load_config(overrides={"train.track": "[tensorboard, wandb]"}).train.track == ("tensorboard", "wandb")
    assert load_config(overrides={"train.track": "[]"}).train.track == ()
    with pytest.raises(ConfigError, match="track"):
        load_config(overrides={"train.track": "neptune"})


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    check_trackers(["tensorboard"])
    with pytest.raises(MissingExtra, match=r"train.track=mlflow needs mlflow.*pip install 'pyramidseg\[mlflow\]'"):
        check_trackers(["tensorboard", "mlflow"])


def test_the_real_clients_are_tested_with_what_the_extras_install() -> None:
    root = Path(__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = (root / "tests" / "clients" / "trackers" / "requirements.in").read_text().split("\n")
    assert installed == [*extras["mlflow"], *extras["wandb"], ""]


def test_tensorboard_gets_the_values_of_each_epoch(run: RunFolder) -> None:
    opened = Trackers(load_config(), run, resume=False)
    opened.log(ROW)
    opened.close(finished=True)
    events = EventAccumulator(str(run.events))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"val/miou", "skipped/steps"}
    assert [(event.step, event.value) for event in events.Scalars("val/miou")] == [(1, 0.5)]
    assert not (run.path / "trackers.json").exists()


def test_a_tracker_that_fails_is_left_out(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Fragile)
    monkeypatch.setattr(Fragile, "calls", [])
    config = load_config(overrides={"train.track": "[mlflow, tensorboard]"})
    opened = Trackers(config, run, resume=False)
    with caplog.at_level(logging.WARNING):
        for epoch in (1, 2, 3):
            opened.log({**ROW, "epoch": epoch})
    assert caplog.messages == [
        "train.track: mlflow gets no further values, as it failed in epoch 2: connection reset; metrics.csv has them"
    ]
    opened.close(finished=False)
    assert not (run.path / "trackers.json").exists()
    values = {"val/miou": 0.5, "skipped/steps": 2.0}
    assert Fragile.calls == [("open", ""), (1, values), (2, values)]


def test_a_resumed_run_finds_its_own_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Fragile)
    monkeypatch.setattr(Fragile, "calls", [])
    config = load_config(overrides={"train.track": "mlflow"})
    Trackers(config, run, resume=False).keep_ids()
    Trackers(load_config(overrides={"train.track": "tensorboard"}), run, resume=True).keep_ids()
    Trackers(config, run, resume=True).close(finished=True)
    assert Fragile.calls == [("open", ""), ("open", "run-7"), ("close", True)], "also after a run without the tracker"
    (run.path / "trackers.json").write_text("{damaged")
    Trackers(config, run, resume=True)
    assert Fragile.calls[-1] == ("open", "")


def test_a_tracker_that_cannot_be_used_leaves_runs_as_they_are(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("api_key not configured")

    out = tmp_path / "run"
    settings: Any = {**TINY_SETTINGS, "epochs": 1, "batch_size": 8, "workers": 0}
    train(scenes, out=out, **settings)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setitem(trackers.TRACKERS, "wandb", refuse)
    monkeypatch.setattr("pyramidseg.training.loop.check_trackers", lambda names: None)
    for folder, overwrite in ((out, True), (tmp_path / "new", False)):
        with pytest.raises(ConfigError, match=r"train\.track: wandb cannot be used"):
            train(scenes, out=folder, overwrite=overwrite, track="wandb", **settings)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new" / "config.yaml").exists()


def test_a_tracker_that_cannot_be_opened_is_named(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("api_key not configured")

    monkeypatch.setitem(trackers.TRACKERS, "wandb", refuse)
    with pytest.raises(ConfigError, match=r"train\.track: wandb cannot be used: api_key not configured"):
        Trackers(load_config(overrides={"train.track": "wandb"}), run, resume=False)
