"""The folder of a training run (RUN), and whether it may be started, resumed or overwritten."""

import itertools
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyramidseg.base.config import Config
from pyramidseg.base.device import choose_device, resolve_precision
from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.files import explained_writes, remove_leftovers, write_text
from pyramidseg.base.output_lock import is_lock
from pyramidseg.base.overrides import given_settings, load_config, make_config
from pyramidseg.base.safe_paths import is_valid_name
from pyramidseg.base.text import csv_text, first_few
from pyramidseg.training.optim import choose_optimizer

WRITTEN_BY_RUNS = {
    ".": ("config.yaml", "dataset.yaml", "metrics.csv", "*.safetensors", "report.html"),
    "checkpoint": ("step-*.safetensors",),
    "plots": ("*.png",),
    "tensorboard": ("events.out.tfevents.*",),
}
"""Patterns of the files that a run writes, by subfolder of RUN. Overwriting a run deletes nothing else."""

MAY_CHANGE = {"train.device", "data.workers", "data.cache", "data.allow_leak"}
"""Settings that may change when a run is resumed, because they do not change the result."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside RUN."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.path / "config.yaml"

    @property
    def dataset(self) -> Path:
        """Description of the dataset: layout, classes, and everything that was inferred."""
        return self.path / "dataset.yaml"

    @property
    def metrics(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def best(self) -> Path:
        """Bundle of the best epoch by `train.watch`."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """Bundle of the last epoch."""
        return self.path / "last.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints for resuming."""
        return self.path / "checkpoint"

    @property
    def report(self) -> Path:
        """The report, written at the end of the run."""
        return self.path / "report.html"

    @property
    def plots(self) -> Path:
        """Plots of the report as image files."""
        return self.path / "plots"

    @property
    def events(self) -> Path:
        """TensorBoard event files."""
        return self.path / "tensorboard"

    def require_bundles(self) -> None:
        """Check that the bundles of a finished run exist.

        Raises:
            OutputError: one of them is missing.
        """
        for bundle in (self.best, self.last):
            if not bundle.exists():
                raise OutputError(
                    f"{bundle}: is missing, and a finished run does not write it again; restore the file, or train "
                    "from scratch with --overwrite"
                )

    def is_run(self) -> bool:
        """Whether the folder contains a run: its config.yaml has the sections of `Config`, and only these."""
        try:
            tree = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return False
        return isinstance(tree, dict) and set(tree) == set(Config.model_fields)

    def foreign_files(self) -> list[Path]:
        """Files and folders in RUN that a run does not write, relative to it."""
        found = []
        for folder, patterns in WRITTEN_BY_RUNS.items():
            place = self.path / folder
            if place.is_symlink() or not place.is_dir():
                continue
            own = {path for pattern in patterns for path in place.glob(pattern) if path.is_file()}
            own |= {self.path / name for name in WRITTEN_BY_RUNS if folder == "."}
            found += sorted(
                path.relative_to(self.path) for path in place.iterdir() if path not in own and not is_lock(path)
            )
        return found

    def write_metrics(self, rows: Sequence[Mapping[str, float | int | None]]) -> None:
        """Write all rows so far; values that do not exist are empty cells."""
        cells = [[_six_digits(value) for value in row.values()] for row in rows]
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
        OutputError: RUN exists and neither `resume` nor `overwrite` is set, it cannot be created, it contains an input,
            or it contains files that no run writes and that overwriting would delete.
        ConfigError: both are set, or a given setting differs from the resumed run's.
    """
    if resume and overwrite:
        raise ConfigError("--resume continues a run and --overwrite discards it; give only one of them")
    if not is_valid_name(str(out)):
        raise OutputError(f"--out {out}: TensorBoard needs a path in UTF-8 without control characters; choose another")
    run = RunFolder(out)
    for folder in (run.path, run.checkpoints, run.plots):
        remove_leftovers(folder)
    if resume and run.config.is_file():
        return run, _agreed(load_config(run.config), config, run)
    _refuse_inputs_inside(out, inputs)
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
            _delete_all_but(run.config)
            write_text(run.config, config.to_yaml())
    if not run.dataset.is_file():
        write_text(run.dataset, yaml.safe_dump(dict(description), sort_keys=False))


def is_occupied(out: Path) -> bool:
    """Whether `out` exists and is more than an empty folder, apart from lock files."""
    return out.exists() and (not out.is_dir() or not all(is_lock(path) for path in out.iterdir()))


def _refuse_occupied(run: RunFolder, *, overwrite: bool) -> None:
    """Refuse a folder that has more in it than a run which may be overwritten."""
    if is_occupied(run.path) and not (overwrite and run.is_run()):
        raise OutputError(f"{run.path}: exists already{_ways_on(run)}")
    if foreign := run.foreign_files():
        raise OutputError(
            f"{run.path}: contains {first_few(foreign)}, which training does not write and --overwrite would delete; "
            "move this elsewhere, or choose another --out"
        )


def _delete_all_but(config: Path) -> None:
    """Delete everything in RUN but its config.yaml, which identifies a run and is overwritten afterwards."""
    for path in config.parent.iterdir() if config.parent.exists() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != config and not is_lock(path):
            path.unlink()


def _refuse_inputs_inside(out: Path, inputs: Sequence[str | Path]) -> None:
    folder = out.resolve()
    for given in inputs:
        path = Path(given).resolve()
        if path.exists() and (path == folder or folder in path.parents):
            raise OutputError(f"--out {out}: contains {given}, which this run reads; choose another --out")


def _ways_on(run: RunFolder) -> str:
    if run.is_run():
        return "; --resume continues this run, --overwrite discards it, or choose another --out"
    return " and is not a pyramidseg run (it has no config.yaml of one); choose another --out"


def _agreed(saved: Config, config: Config, run: RunFolder) -> Config:
    """The saved settings with the changes that resuming allows.

    The saved settings are resolved, so that given values such as `auto` are resolved before the comparison.
    """
    before, given = saved.model_dump(), given_settings(config)
    merged, _ = choose_optimizer(_with_settings(saved, given))
    if "train.precision" in given:
        merged = with_precision(merged)
    resolved = merged.model_dump()
    for name, value in given.items():
        section, _, key = name.partition(".")
        if before[section][key] != resolved[section][key] and name not in MAY_CHANGE:
            more = f"; or go on from its weights: {_continuation(run, value)}" if name == "train.epochs" else ""
            raise ConfigError(
                f"--resume: {name} was {before[section][key]!r} in {run.config} and is {value!r} now; a resumed run "
                f"keeps its settings (only {', '.join(sorted(MAY_CHANGE))} may change): remove it, or start a new run"
                f"{more if run.last.is_file() else ''}"
            )
    return merged


def _continuation(run: RunFolder, epochs: int) -> str:
    """The command of a new run that starts from the last weights of a run, with its settings."""
    try:
        description = yaml.safe_load(run.dataset.read_text(encoding="utf-8"))
        dataset = str(description["recorded"]["source"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        dataset = "DATASET"
    numbers = itertools.count(2)
    new = next(new for number in numbers if not (new := run.path.with_name(f"{run.path.name}-{number}")).exists())
    words = ("pyramidseg", "train", dataset, "--config", run.config, "--out", new, "--weights", run.last)
    return shlex.join([*map(str, words), "--epochs", str(epochs)])


def with_precision(config: Config) -> Config:
    """The settings with `train.precision=auto` resolved for the device."""
    precision = resolve_precision(config.train.precision, choose_device(config.train.device))
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": precision})})


def _with_settings(config: Config, given: Mapping[str, Any]) -> Config:
    tree = config.model_dump()
    for name, value in given.items():
        section, _, key = name.partition(".")
        tree[section][key] = value
    return make_config(tree)


def _six_digits(value: float | int | None) -> str | float | None:
    return f"{value:.6g}" if isinstance(value, float) and value == value else value
