"""The folder of a training run (RUN), and whether it may be started, resumed or overwritten."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pyramidseg.base.config import Config
from pyramidseg.base.device import choose_device, resolve_precision
from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.files import explained_writes, remove_leftovers, write_text
from pyramidseg.base.output_lock import is_lock
from pyramidseg.base.overrides import given_settings, load_config
from pyramidseg.base.safe_paths import is_valid_name
from pyramidseg.base.text import csv_text, first_few
from pyramidseg.training.optim import choose_optimizer

WRITTEN_BY_RUNS = (
    *("dataset.yaml", "metrics.csv", "best.safetensors", "last.safetensors", "report.html", "trackers.json"),
    *("checkpoint/step-*.safetensors", "plots/*.png", "tensorboard/events.out.tfevents.*"),
)
"""Patterns of the files that a run writes besides its config.yaml. Overwriting a run deletes nothing else."""

MAY_CHANGE = {"train.device", "data.workers", "data.cache", "data.allow_leak", "train.track"}
"""Settings that may change when a run is resumed, because they do not change the result."""


class RunFolder:
    """Paths inside RUN.

    Attributes:
        dataset: description of the dataset: layout, classes, and everything that was inferred.
        best, last: bundles of the best epoch by `train.watch` and of the last one.
        checkpoints: what resuming needs.
        events: of TensorBoard.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.dataset = path / "dataset.yaml"
        self.metrics = path / "metrics.csv"
        self.best = path / "best.safetensors"
        self.last = path / "last.safetensors"
        self.checkpoints = path / "checkpoint"
        self.report = path / "report.html"
        self.plots = path / "plots"
        self.events = path / "tensorboard"

    def is_run(self) -> bool:
        """Whether the folder contains a run: its config.yaml has the sections of `Config`, and only these."""
        try:
            tree = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return False
        return isinstance(tree, dict) and set(tree) == set(Config.model_fields)

    def write_metrics(self, rows: Sequence[Mapping[str, float | int | None]]) -> None:
        """Write all rows so far; values that do not exist are empty cells."""
        cells = [[f"{v:.6g}" if isinstance(v, float) and v == v else v for v in row.values()] for row in rows]
        write_text(self.metrics, csv_text([list(rows[0]), *cells] if rows else []))


def device_of(out: Path, config: Config, *, resume: bool) -> str:
    """The device that the run will use; processes need it to form a group before `open_run`."""
    run = RunFolder(out)
    if resume and run.config.is_file() and "train.device" not in given_settings(config):
        return load_config(run.config).train.device
    return config.train.device


def open_run(
    out: Path, config: Config, *, resume: bool, overwrite: bool, inputs: Sequence[str | Path] = ()
) -> tuple[RunFolder, Config]:
    """Check that RUN may be started or resumed, and resolve its settings; nothing is written.

    `train.precision=auto` is resolved, so that a run keeps its precision when it is resumed on another device.

    Args:
        inputs: files and folders that the run reads, which must not be inside RUN.

    Raises:
        OutputError: RUN exists and neither `resume` nor `overwrite` is set, it is not a run, it contains an
            input, or files that no run writes, or is inside the folder of unlabelled images.
        ConfigError: both are set, or a given setting differs from the resumed run's.
    """
    if resume and overwrite:
        raise ConfigError("`resume` continues a run and `overwrite` discards it; give only one of them")
    if not is_valid_name(str(out)):
        raise OutputError(f"`out={out}`: TensorBoard needs a path in UTF-8 without control characters; choose another")
    run = RunFolder(out)
    for folder in (run.path, run.checkpoints, run.plots):
        remove_leftovers(folder)
    if resume and run.config.is_file():
        return run, _agreed(load_config(run.config), config, run)
    _refuse_inputs_inside(out, inputs)
    unlabelled = config.data.unlabeled
    if unlabelled and out.resolve().is_relative_to(Path(unlabelled).resolve()):
        raise OutputError(f"`out={out}`: inside data.unlabeled={unlabelled}, whose images are learned; choose another")
    _refuse_occupied(run, overwrite=overwrite)
    return run, with_precision(config)


def begin_run(run: RunFolder, config: Config, description: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
    """Create RUN with config.yaml and dataset.yaml, after deleting what an overwritten or killed run left behind.

    If this is interrupted, RUN can still be overwritten.

    Raises:
        OutputError: it cannot be written, or others have written there since `open_run`.
    """
    with explained_writes(run.path):
        if not (resume and run.config.is_file()):
            _refuse_occupied(run, overwrite=overwrite)
            # Not its config.yaml, which identifies a run: it is overwritten afterwards.
            for path in [path for pattern in WRITTEN_BY_RUNS for path in run.path.glob(pattern)]:
                path.unlink()
            write_text(run.config, config.to_yaml())
    if not run.dataset.is_file():
        write_text(run.dataset, yaml.safe_dump(dict(description), sort_keys=False))


def is_occupied(out: Path) -> bool:
    """Whether `out` exists and is more than an empty folder, apart from lock files."""
    return out.exists() and (not out.is_dir() or not all(is_lock(path) for path in out.iterdir()))


def _refuse_occupied(run: RunFolder, *, overwrite: bool) -> None:
    """Refuse a folder that has more in it than a run which may be overwritten."""
    is_run = run.is_run()
    if is_occupied(run.path) and not (overwrite and is_run):
        ways_on = "; `resume=True` continues this run, `overwrite=True` discards it, or choose another `out`"
        no_run = " and is not a pyramidseg run (it has no config.yaml of one); choose another `out`"
        raise OutputError(f"{run.path}: exists already{ways_on if is_run else no_run}")
    if foreign := _foreign_files(run):
        raise OutputError(
            f"{run.path}: contains {first_few(foreign)}, which training does not write; move this elsewhere, or choose "
            "another `out`"
        )


def _foreign_files(run: RunFolder) -> list[str]:
    """Files and links in RUN that a run does not write, relative to it."""
    own = {path for pattern in ("config.yaml", *WRITTEN_BY_RUNS) for path in run.path.glob(pattern)}
    files = (path for path in run.path.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(run.path).as_posix() for path in files if path not in own and not is_lock(path))


def _refuse_inputs_inside(out: Path, inputs: Sequence[str | Path]) -> None:
    folder = out.resolve()
    for given in inputs:
        path = Path(given)
        if path.exists() and folder in (path.resolve(), *path.resolve().parents):
            raise OutputError(f"`out={out}`: contains {given}, which this run reads; choose another `out`")


def _agreed(saved: Config, config: Config, run: RunFolder) -> Config:
    """The saved settings with the changes that resuming allows.

    The saved settings are resolved, so that given values such as `auto` are resolved before the comparison.
    """
    before, given = saved.model_dump(), given_settings(config)
    merged, _ = choose_optimizer(load_config(None, {**given_settings(saved), **given}))
    if "train.precision" in given:
        merged = with_precision(merged)
    resolved = merged.model_dump()
    for name, value in given.items():
        section, _, key = name.partition(".")
        if before[section][key] != resolved[section][key] and name not in MAY_CHANGE:
            way_on = shlex.join(
                map(str, ("--config", run.config, "--out", "NEW", "--weights", run.last, "--epochs", value))
            )
            more = f"; or go on from its weights: pyramidseg train DATASET {way_on}" if name == "train.epochs" else ""
            raise ConfigError(
                f"`resume`: {name} was {before[section][key]!r} in {run.config} and is {value!r} now; a resumed run "
                f"keeps its settings (only {', '.join(sorted(MAY_CHANGE))} may change): remove it, or start a new run"
                f"{more if run.last.is_file() else ''}"
            )
    return merged


def with_precision(config: Config) -> Config:
    """The settings with `train.precision=auto` resolved for the device."""
    precision = resolve_precision(config.train.precision, choose_device(config.train.device))
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})
