"""Comparison of encoders: plans its training runs and executes them, so that it can be resumed at any time.

DIR/comparison.yaml holds the study, DIR/runs/ENCODER-seedN one ordinary training run each.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError, OutputError, WeightsError
from pyramidseg.base.log import only_warnings
from pyramidseg.base.overrides import load_config
from pyramidseg.data.records import Dataset
from pyramidseg.model.encoder import resolve_encoder
from pyramidseg.studies.cross_validation import continued_settings, plain_settings, read_plan, write_plan
from pyramidseg.training.auto_plan import time_steps
from pyramidseg.training.interrupt import Interrupted
from pyramidseg.training.loop import Run, plan_segmentation, train_segmentation
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import is_occupied
from pyramidseg.training.segmentation_task import prepare_segmentation

logger = logging.getLogger(__name__)


PLAN = "comparison.yaml"


@dataclass(frozen=True)
class Study:
    """A comparison of encoders.

    Attributes:
        dataset: as given by the user.
        encoders: full names.
        seeds: number of runs per encoder.
        epochs: by encoder; equal for all, or as many as fit into `minutes`.
        minutes: budget for training of one run; None if the budget is in epochs.
        settings: settings that all runs share, by dotted name.
    """

    dataset: str
    encoders: tuple[str, ...]
    seeds: int
    epochs: dict[str, int]
    minutes: float | None
    settings: dict[str, Any]

    def config(self, encoder: str, seed: int) -> Config:
        """Configuration of one run."""
        return _config(self.settings, encoder=encoder, epochs=self.epochs[encoder], seed=seed)


def open_study(
    dataset: str,
    encoders: tuple[str, ...],
    *,
    out: Path,
    seeds: int,
    epochs: int | None,
    minutes: float | None,
    config: Config,
) -> Study:
    """The study in `out`: a new one, or the existing one if it has the same arguments.

    Args:
        epochs, minutes: budget of each run; exactly one of them.
        config: settings that all runs share.

    Raises:
        ConfigError: no budget or two, an unknown or repeated encoder, or arguments that differ from the study in `out`.
        OutputError: `out` has other content.
        PyramidSegError: a run of the study could not start; nothing is written then.
    """
    if (epochs is None) == (minutes is None):
        raise ConfigError("compare: set the budget of a run, either --epochs or --minutes")
    if seeds < 1 or (epochs is not None and epochs < 1) or (minutes is not None and minutes <= 0):
        raise ConfigError(f"compare: seeds={seeds}, epochs={epochs}, minutes={minutes}: all must be above 0")
    names = tuple(resolve_encoder(name) for name in encoders)
    if len(set(names)) < len(names) or len(names) < 2:
        raise ConfigError(f"compare: encoders {', '.join(names)}: at least two different ones are needed")
    own = {"model.encoder", "model.encoder_depth", "train.epochs", "train.seed"}
    settings = plain_settings(config)
    refuse_study_settings(settings, own, command="compare", study="comparison")
    study: dict[str, Any] = {"dataset": dataset, "encoders": [*names], "seeds": seeds}
    study |= {"epochs": dict.fromkeys(names, epochs), "minutes": minutes}
    if (out / PLAN).is_file():
        if epochs is None:
            study["epochs"] = read_plan(out / PLAN, "epochs")["epochs"]
        settings = plain_settings(config := continued_settings(out / PLAN, config, **study))
    else:
        refuse_occupied(out, "a comparison")
        logger.info(f"checking the dataset and {len(names)} encoders")
        for name in names:  # so that an error of the last one is raised before the first is trained
            with only_warnings():
                plan_segmentation(_config(settings, encoder=name, epochs=1, seed=0), dataset)
        if minutes is not None:
            encoder = "model.encoder"
            study["epochs"] = {it: affordable_epochs({**settings, encoder: it}, minutes, dataset) for it in names}
    write_plan(out / PLAN, config, **study)
    return Study(**{**study, "encoders": names}, settings=settings)


def run_study(study: Study, out: Path) -> dict[str, list[Run]]:
    """Execute the runs of a study that are not finished yet.

    All encoders of one seed before the next seed, so that they can be compared early.

    Returns:
        Runs by encoder, in the order of the seeds.

    Raises:
        Interrupted: the progress is saved.
    """
    runs: dict[str, list[Run]] = {encoder: [] for encoder in study.encoders}
    total = study.seeds * len(study.encoders)
    for seed in range(study.seeds):
        for index, encoder in enumerate(study.encoders):
            number = seed * len(study.encoders) + index + 1
            logger.info(f"run {number} of {total}: {encoder}, seed {seed}, {study.epochs[encoder]} epochs")
            runs[encoder].append(
                resumed_run(study.config(encoder, seed), study.dataset, run_folder(out, encoder, seed))
            )
    return runs


def resumed_run(config: Config, dataset: str | Dataset, folder: Path) -> Run:
    """Execute one run; replaces advice on options of `train`, which the commands of studies do not have."""
    try:
        return train_segmentation(config, dataset, out=folder, resume=folder.exists(), overwrite=False)
    except Interrupted:
        raise Interrupted("interrupted; progress is saved, and the same command resumes") from None
    except WeightsError as error:
        advice = f"delete {folder}, and the same command trains it again"
        raise WeightsError(re.sub(r"--overwrite [^;]*", lambda _: advice, str(error))) from None


def run_folder(out: Path, encoder: str, seed: int) -> Path:
    """Folder of one run."""
    return out / "runs" / f"{encoder}-seed{seed}"


def refuse_study_settings(settings: Iterable[str], own: Set[str], *, command: str, study: str) -> None:
    """Refuse settings that a study sets itself; a ConfigError."""
    if found := sorted(own & {*settings}):
        raise ConfigError(f"{command}: {found[0]} is set by the {study} itself; leave it out")


def named_dataset(dataset: str | Path, *, command: str) -> str:
    """The path of a study's dataset, by which it is continued later; a ConfigError for datasets that have none."""
    if isinstance(dataset, (str, Path)):
        return str(dataset)
    advice = "ps.convert_dataset writes a Dataset to a folder, and a YAML file with sources joins several"
    raise ConfigError(f"{command}: dataset is a {type(dataset).__name__}, and has to be a path; {advice}")


def affordable_epochs(settings: Mapping[str, Any], minutes: float, dataset: str, *, command: str = "compare") -> int:
    """Number of epochs of training that fit into the minutes, measured by a few steps; a ConfigError if none does."""
    network = settings.get("model.encoder", "the network")
    logger.info(f"measuring how many epochs of {network} fit into {minutes:g} minutes")
    with only_warnings():
        task = prepare_segmentation(load_config(None, {**settings, "train.epochs": 1, "train.seed": 0}), dataset)
        seconds = time_steps(task, TrainingProgress())[0]
    if seconds > 60 * minutes:
        raise ConfigError(
            f"{command}: --minutes {minutes:g}: an epoch of {network} takes {seconds / 60:.1f} minutes here; "
            "choose a larger budget"
        )
    return int(60 * minutes / seconds)


def _config(settings: Mapping[str, Any], *, encoder: str, epochs: int, seed: int) -> Config:
    return load_config(None, {**settings, "model.encoder": encoder, "train.epochs": epochs, "train.seed": seed})


def refuse_occupied(out: Path, study: str) -> None:
    """Refuse a folder that has content, as it has no `study` to be continued."""
    if is_occupied(out):
        raise OutputError(f"{out}: exists already and is not {study}; choose another --out")
