"""Trackers of experiments: TensorBoard, MLflow and Weights & Biases get a run's settings and the values of each epoch.

A tracker that fails during training is left out with a warning: metrics.csv has all values.
"""

import json
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pyramidseg.base.config import Config
from pyramidseg.base.distributed import on_first_rank
from pyramidseg.base.errors import ConfigError, PyramidSegError, import_extra
from pyramidseg.base.files import write_text
from pyramidseg.base.text import first_line
from pyramidseg.training.run_folder import RunFolder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

PROJECT = "pyramidseg"
"""MLflow's experiment and the project of Weights & Biases, where MLFLOW_EXPERIMENT_NAME or WANDB_PROJECT is not set."""


class Tracker(Protocol):
    """What a tracker does; `id` finds the same run again when training is resumed."""

    id: str

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Record the values of an epoch (from 1)."""

    def close(self, *, finished: bool) -> None:
        """Record that training has ended, or was stopped before its last epoch."""


class Trackers:
    """The trackers of a run; nothing is written to its folder before `keep_ids`.

    Args:
        resume: continue the trackers' own runs, whose ids are in the folder.

    Raises:
        MissingExtra: a library is not installed.
        ConfigError: a tracker cannot be used, for instance because nobody is logged in.
    """

    def __init__(self, config: Config, run: RunFolder, *, resume: bool) -> None:
        self._file = run.path / "trackers.json"
        self._ids = _read_ids(self._file) if resume else {}
        self._open: dict[str, Tracker] = {}
        for name in config.train.track:
            try:
                self._open[name] = TRACKERS[name](config, run, self._ids.get(name, ""))
            except PyramidSegError:
                raise
            except Exception as error:
                raise ConfigError(f"train.track: {name} cannot be used: {first_line(error, max_chars=600)}") from error

    def keep_ids(self) -> None:
        """Write the ids, by which a resumed run finds the trackers' runs."""
        if found := {name: tracker.id for name, tracker in self._open.items() if tracker.id}:
            write_text(self._file, json.dumps({**self._ids, **found}))

    def log(self, row: Mapping[str, Any]) -> None:
        """Record a row of metrics.csv; `val_miou` is called `val/miou`."""
        values = {
            re.sub(r"[^\w\-. :/]", "_", name.replace("_", "/", 1)): float(value)  # as MLflow asks of class names
            for name, value in row.items()
            if value is not None and name != "epoch"
        }
        for name, tracker in list(self._open.items()):
            try:
                tracker.log(values, row["epoch"])
            except Exception as error:
                del self._open[name]
                logger.warning(
                    f"train.track: {name} gets no further values, as it failed in epoch {row['epoch']}: "
                    f"{first_line(error)}; metrics.csv has them"
                )

    def close(self, *, finished: bool) -> None:
        """End the trackers' runs."""
        for name, tracker in self._open.items():
            try:
                tracker.close(finished=finished)
            except Exception as error:
                logger.warning(f"train.track: {name} could not end its run: {first_line(error)}")


class TensorBoard:
    """Events in RUN/tensorboard."""

    id = ""

    def __init__(self, config: Config, run: RunFolder, id: str) -> None:
        self._folder = run.events
        self._writer: SummaryWriter | None = None

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """See `Tracker`; discards what a killed run has recorded from this epoch on."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self._writer = self._writer or SummaryWriter(str(self._folder), purge_step=epoch)
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)

    def close(self, *, finished: bool) -> None:
        if self._writer:
            self._writer.close()


class MLflow:
    """A run in the experiment MLFLOW_EXPERIMENT_NAME of MLFLOW_TRACKING_URI, a server or sqlite:///FILE."""

    def __init__(self, config: Config, run: RunFolder, id: str) -> None:
        mlflow = _import("mlflow")
        self._metric, self._client = mlflow.entities.Metric, mlflow.MlflowClient()
        self.id = id
        if id:
            self._client.update_run(id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self.id = self._client.create_run(experiment, run_name=_run_name(run)).info.run_id
        params = [mlflow.entities.Param(key, str(value)[:500]) for key, value in _settings(config)]
        for start in range(0, len(params), 100):  # the most that a server takes at once
            self._client.log_batch(self.id, params=params[start : start + 100])

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(self.id, metrics=[self._metric(*value, now, epoch) for value in values.items()])

    def close(self, *, finished: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")


class WeightsAndBiases:
    """A run in the project WANDB_PROJECT; WANDB_MODE=offline keeps it on this machine."""

    def __init__(self, config: Config, run: RunFolder, id: str) -> None:
        wandb = _import("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=_run_name(run),
            id=id or None,
            resume="allow",
            config=dict(_settings(config)),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.id = self._run.id

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        self._run.log(dict(values), step=epoch)

    def close(self, *, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


TRACKERS: dict[str, Any] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}
"""Class by value of `train.track`."""


def open_trackers(config: Config, run: RunFolder, *, resume: bool) -> Trackers | None:
    """The trackers, on the first rank; raises the errors of `Trackers` on all."""
    opened: list[Trackers] = []
    on_first_rank(lambda: opened.append(Trackers(config, run, resume=resume)))
    return opened[0] if opened else None


def check_trackers(names: Iterable[str]) -> None:
    """Import what trackers need, before any data is read.

    Raises:
        MissingExtra: a library is not installed.
    """
    for name in names:
        if name != "tensorboard":
            _import(name)


def _import(name: str) -> Any:
    return import_extra(name, extra=name, purpose=f"train.track={name}")


def _read_ids(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none were kept, or the file is damaged: the trackers get new runs
        return {}


def _run_name(run: RunFolder) -> str:
    return Path(os.path.abspath(run.path)).name


def _settings(config: Config) -> list[tuple[str, Any]]:
    """All settings as section.key and value."""
    tree = config.model_dump(mode="json")
    return [(f"{section}.{key}", value) for section, part in tree.items() for key, value in part.items()]
