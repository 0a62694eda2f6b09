"""Comparison of encoders, the function behind `pyramidseg compare`, and what other studies share with it.

DIR/comparison.yaml holds the study, DIR/runs/ENCODER-seedN one ordinary training run each.
"""

import logging
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError, OutputError, WeightsError
from pyramidseg.base.log import only_warnings
from pyramidseg.base.output_lock import locks_out
from pyramidseg.base.overrides import given_settings, load_config, resolve_config
from pyramidseg.data.records import Dataset
from pyramidseg.model.encoder import resolve_encoder
from pyramidseg.studies.compare_report import write_report
from pyramidseg.studies.compare_results import Results, Study, collect, run_config
from pyramidseg.studies.cross_validation import continued_settings, plain_settings, read_plan, write_plan
from pyramidseg.training.auto_plan import time_steps
from pyramidseg.training.interrupt import Interrupted
from pyramidseg.training.loop import Run
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import is_occupied
from pyramidseg.training.segmentation_task import prepare_segmentation
from pyramidseg.training.segmentation_training import plan_segmentation, train_segmentation

logger = logging.getLogger(__name__)

PLAN = "comparison.yaml"


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        verdict: which differences are significant, in sentences.
    """

    folder: Path
    report: Path
    verdict: tuple[str, ...]
    results: Results


@locks_out
def compare_encoders(
    dataset: str | Path,
    encoders: Sequence[str],
    *,
    out: str | Path,
    seeds: int = 1,
    epochs: int | None = None,
    minutes: float | None = None,
    config: Config | str | Path | None = None,
) -> Comparison:
    """Train several encoders with the same budget, and report which differences are significant.

    An interrupted comparison in `out` is continued.

    Args:
        encoders: at least two names, such as `["resnet18", "resnet50"]`.
        seeds: runs of each encoder.
        epochs: budget of each run in epochs; give either this or `minutes`.
        minutes: budget of each run in minutes of training.
        config: settings that all runs share: a `Config`, or a YAML file.

    Raises:
        PyramidSegError: the input cannot be used; nothing has been trained then.
    """
    if isinstance(encoders, str):
        raise ConfigError(f"compare: `encoders={encoders!r}`: a list of names is needed, such as ['resnet18']")
    folder, source, resolved = Path(out), named_dataset(dataset, command="compare"), resolve_config(config)
    study = open_study(
        source, tuple(encoders), out=folder, seeds=seeds, epochs=epochs, minutes=minutes, config=resolved
    )
    results = collect(run_study(study, folder), study.dataset)
    return Comparison(folder, folder / "report.html", write_report(folder, study, results), results)


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
    check_budget("compare", seeds, epochs, minutes)
    names = tuple(resolve_encoder(name) for name in encoders)
    if len(set(names)) < len(names) or len(names) < 2:
        raise ConfigError(f"compare: encoders {', '.join(names)}: at least two different ones are needed")
    own = {"model.encoder", "model.encoder_depth", "train.epochs", "train.seed"}
    refuse_study_settings(config, own, command="compare", study="comparison")
    study: dict[str, Any] = {"dataset": dataset, "encoders": [*names], "seeds": seeds}
    study |= {"epochs": dict.fromkeys(names, epochs), "minutes": minutes}
    if (out / PLAN).is_file():
        if epochs is None:
            study["epochs"] = read_plan(out / PLAN, "epochs")["epochs"]
        config = continued_settings(out / PLAN, config, study)
    else:
        refuse_occupied(out, "a comparison")
        logger.info(f"checking the dataset and {len(names)} encoders")
        settings = plain_settings(config)
        for name in names:  # so that an error of the last one is raised before the first is trained
            with only_warnings():
                plan_segmentation(run_config(settings, encoder=name, epochs=1, seed=0), dataset)
        if minutes is not None:
            encoder = "model.encoder"
            study["epochs"] = {it: affordable_epochs({**settings, encoder: it}, minutes, dataset) for it in names}
    write_plan(out / PLAN, config, study)
    return Study(**{**study, "encoders": names}, settings=plain_settings(config))


def run_study(study: Study, out: Path) -> dict[str, list[Run]]:
    """Execute the runs of a study that are not finished yet.

    All encoders of one seed before the next seed, so that they can be compared early.

    Returns:
        Runs by encoder, in the order of the seeds.

    Raises:
        Interrupted: the progress is saved.
    """
    runs: dict[str, list[Run]] = {encoder: [] for encoder in study.encoders}
    order = [(seed, encoder) for seed in range(study.seeds) for encoder in study.encoders]
    for number, (seed, encoder) in enumerate(order, start=1):
        logger.info(f"run {number} of {len(order)}: {encoder}, seed {seed}, {study.epochs[encoder]} epochs")
        run = resumed_run(study.config(encoder, seed), study.dataset, run_folder(out, encoder, seed))
        runs[encoder].append(run)
    return runs


def resumed_run(config: Config, dataset: str | Dataset, folder: Path) -> Run:
    """Execute one run; replaces advice on options of `train`, which the commands of studies do not have."""
    try:
        return train_segmentation(config, dataset, out=folder, resume=folder.exists(), overwrite=False)
    except Interrupted:
        raise Interrupted("interrupted; progress is saved, and the same command resumes") from None
    except WeightsError as error:
        advice = f"delete {folder}, and the same command trains it again"
        raise WeightsError(re.sub(r"`overwrite=True` [^;]*", lambda _: advice, str(error))) from None


def run_folder(out: Path, encoder: str, seed: int) -> Path:
    """Folder of one run."""
    return out / "runs" / f"{encoder}-seed{seed}"


def check_budget(command: str, seeds: int, epochs: int | None, minutes: float | None) -> None:
    """Refuse a study without a budget or with two, and numbers that are not above 0; a ConfigError."""
    if (epochs is None) == (minutes is None):
        raise ConfigError(f"{command}: set the budget of a run, either `epochs` or `minutes`")
    for name, number in (("seeds", seeds), ("epochs", epochs), ("minutes", minutes)):
        if number is not None and number <= 0:
            raise ConfigError(f"{command}: `{name}={number:g}`: must be above 0")


def refuse_study_settings(config: Config, own: Set[str], *, command: str, study: str) -> None:
    """Refuse settings that a study sets itself; a ConfigError."""
    if found := sorted(own & {*given_settings(config)}):
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
            f"{command}: `minutes={minutes:g}`: an epoch of {network} takes {seconds / 60:.1f} minutes here; "
            "choose a larger budget"
        )
    return int(60 * minutes / seconds)


def refuse_occupied(out: Path, study: str) -> None:
    """Refuse a folder that has content, as it has no `study` to be continued."""
    if is_occupied(out):
        raise OutputError(f"{out}: exists already and is not {study}; choose another `out`")
