"""A comparison: which runs it is made of, and carrying them out so that it can be taken up again at any time.

DIR/comparison.yaml holds what was asked, DIR/runs/ENCODER-seedN one ordinary training run each.
"""

import logging
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError, OutputError, WeightsError
from pyramidseg.base.files import write_text
from pyramidseg.base.log import only_warnings
from pyramidseg.base.overrides import make_config
from pyramidseg.model.encoder import resolve_encoder
from pyramidseg.training.checkpoint import InitialWeights
from pyramidseg.training.interrupt import Interrupted
from pyramidseg.training.loop import Run, fit, plan, run_task
from pyramidseg.training.run_folder import is_occupied
from pyramidseg.training.segmentation_task import SegmentationTask
from pyramidseg.training.setup import Setup
from pyramidseg.training.task import Validation

logger = logging.getLogger(__name__)

# How many epochs a budget in minutes allows: one trial epoch of each encoder is timed.


@dataclass(frozen=True)
class TimedSegmentation(SegmentationTask):
    """SegmentationTask that notes the seconds of each validation, which metrics.csv does not have."""

    seconds: list[float] = field(default_factory=list)

    def validate(self, model: nn.Module) -> Validation:
        """See `Task.validate`."""
        began = time.monotonic()
        found = super().validate(model)
        self.seconds.append(time.monotonic() - began)
        return found


def epoch_seconds(config: Config, dataset: str, *, out: Path) -> float:
    """Seconds that training and validation take in one epoch, by a run of one in `out`, which is deleted again.

    Raises:
        Interrupted: in words of a comparison.
    """
    timed: list[TimedSegmentation] = []

    def timed_setup(resolved: Config, origin: InitialWeights | None) -> Setup:
        setup = plan(resolved, dataset, origin)
        task = setup.task
        assert isinstance(task, SegmentationTask)
        timed.append(TimedSegmentation(task.config, task.dataset, task.summary, task.step, task.class_weights))
        return replace(setup, task=timed[0])

    shutil.rmtree(out, ignore_errors=True)
    try:
        with _nothing_kept(), only_warnings():
            run = run_task(
                config,
                timed_setup,
                out=out,
                resume=False,
                overwrite=False,
            )
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return float(sum(row["seconds"] for row in run.history) + sum(timed[0].seconds))


def affordable_epochs(encoder: str, *, minutes: float, seconds: float) -> int:
    """Epochs of so many seconds that fit into the minutes.

    Raises:
        ConfigError: not even one does.
    """
    epochs = int(60 * minutes / seconds)
    if epochs < 1:
        raise ConfigError(
            f"compare: --minutes {minutes:g}: an epoch of {encoder} takes {seconds / 60:.1f} minutes here; give more"
        )
    return epochs


@contextmanager
def _nothing_kept() -> Iterator[None]:
    """What an interruption means in a trial epoch; training's own words are of a run that is kept."""
    try:
        yield
    except Interrupted:
        raise Interrupted(
            "interrupted in a trial epoch, of which nothing is kept; the same command begins again"
        ) from None


PLAN = "comparison.yaml"


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        dataset: as the user named it.
        encoders: networks by their full names.
        epochs: by encoder; equal for all, or as many as the minutes that were given allow.
        minutes: budget of one run's training and validation, or None where epochs were given.
        settings: given settings that all runs share, by dotted name.
    """

    dataset: str
    encoders: tuple[str, ...]
    seeds: int
    epochs: dict[str, int]
    minutes: float | None
    settings: dict[str, Any]

    def config(self, encoder: str, seed: int) -> Config:
        """Settings of one run."""
        return _config(self.settings, encoder=encoder, epochs=self.epochs[encoder], seed=seed)


def begin_study(
    dataset: str,
    encoders: tuple[str, ...],
    *,
    out: Path,
    seeds: int,
    epochs: int | None,
    minutes: float | None,
    settings: Mapping[str, Any],
) -> Study:
    """The study in `out`: a new one, or the one that is there already, which has to ask the same.

    Args:
        epochs, minutes: the budget of every run; one of them.

    Raises:
        ConfigError: no budget or two, an unknown encoder or one named twice, or another study than the one in `out`.
        OutputError: `out` holds something else.
        Interrupted: in a trial epoch.
        PyramidSegError: a run of the study could not begin; nothing is written then.
    """
    if (epochs is None) == (minutes is None):
        raise ConfigError("compare: give the budget of a run, either --epochs or --minutes")
    if seeds < 1 or (epochs is not None and epochs < 1) or (minutes is not None and minutes <= 0):
        raise ConfigError(f"compare: seeds={seeds}, epochs={epochs}, minutes={minutes}: all have to be above 0")
    names = tuple(resolve_encoder(name) for name in encoders)
    if len(set(names)) < len(names) or len(names) < 2:
        raise ConfigError(f"compare: encoders {', '.join(names)}: at least two different ones are needed")
    taken = sorted({"model.encoder", "model.encoder_depth", "train.epochs", "train.seed"} & set(settings))
    if taken:
        raise ConfigError(f"compare: {taken[0]} is what is compared; leave the setting out")
    stored = _stored(out)
    if stored is not None:
        _require_same(stored, dataset, names, seeds=seeds, epochs=epochs, minutes=minutes, settings=settings, out=out)
        if seeds > stored.seeds:
            stored = replace(stored, seeds=seeds)
            write_text(out / PLAN, yaml.safe_dump(_plain(stored), sort_keys=False))
        return stored
    if is_occupied(out):
        raise OutputError(f"{out}: exists already and holds no comparison; choose another --out")
    _check_runs(dataset, names, settings)
    counts = (
        dict.fromkeys(names, epochs)
        if epochs is not None
        else {name: _affordable(dataset, name, settings, minutes or 0, out) for name in names}
    )
    study = Study(dataset, names, seeds, counts, minutes, dict(settings))
    write_text(out / PLAN, yaml.safe_dump(_plain(study), sort_keys=False))
    return study


def carry_out(study: Study, out: Path) -> dict[str, list[Run]]:
    """Train what has not been trained yet; finished runs are left as they are.

    Seed by seed, so that there is something to compare early.

    Returns:
        Runs by encoder, in the order of the seeds.

    Raises:
        Interrupted: what was trained is saved.
    """
    runs: dict[str, list[Run]] = {encoder: [] for encoder in study.encoders}
    total = study.seeds * len(study.encoders)
    for seed in range(study.seeds):
        for place, encoder in enumerate(study.encoders):
            number = seed * len(study.encoders) + place + 1
            logger.info(f"run {number} of {total}: {encoder}, seed {seed}, {study.epochs[encoder]} epochs")
            folder = run_folder(out, encoder, seed)
            config = study.config(encoder, seed)
            with _in_words_of_compare(folder):
                run = fit(
                    config,
                    study.dataset,
                    out=folder,
                    resume=folder.exists(),
                    overwrite=False,
                )
            runs[encoder].append(run)
    return runs


def run_folder(out: Path, encoder: str, seed: int) -> Path:
    """Where one run lies."""
    return out / "runs" / f"{encoder}-seed{seed}"


@contextmanager
def _in_words_of_compare(folder: Path) -> Iterator[None]:
    """What training says of `train`'s flags, which `compare` has not, as what to do here."""
    try:
        yield
    except Interrupted:
        raise Interrupted("interrupted; what was trained is saved: the same command continues") from None
    except WeightsError as error:
        here = f"delete {folder}, and the same command trains it anew"
        raise WeightsError(str(error).replace("--overwrite starts anew", here)) from None


def _check_runs(dataset: str, encoders: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Plan a run of every encoder: whatever would refuse the last one refuses before the first is trained."""
    logger.info(f"checking the dataset and {len(encoders)} encoders")
    for encoder in encoders:
        with only_warnings():
            plan(_config(settings, encoder=encoder, epochs=1, seed=0), dataset)


def _affordable(dataset: str, encoder: str, settings: Mapping[str, Any], minutes: float, out: Path) -> int:
    """Epochs that fit into the minutes, by a trial; see `budget`."""
    logger.info(f"{encoder}: one trial epoch, to see how many {minutes:g} minutes allow")
    config = _config(settings, encoder=encoder, epochs=1, seed=0)
    seconds = epoch_seconds(config, dataset, out=out.with_name(f".{out.name}-trial"))
    return affordable_epochs(encoder, minutes=minutes, seconds=seconds)


def _config(settings: Mapping[str, Any], *, encoder: str, epochs: int, seed: int) -> Config:
    tree: dict[str, dict[str, Any]] = {}
    own = {"model.encoder": encoder, "train.epochs": epochs, "train.seed": seed}
    for name, value in {**settings, **own}.items():
        section, _, key = name.partition(".")
        tree.setdefault(section, {})[key] = value
    return make_config(tree)


def _stored(out: Path) -> Study | None:
    file = out / PLAN
    if not file.is_file():
        return None
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return Study(**{**content, "encoders": tuple(content["encoders"])})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        raise OutputError(f"{file}: cannot be read as a comparison ({error}); choose another --out") from None


def _require_same(
    stored: Study,
    dataset: str,
    encoders: tuple[str, ...],
    *,
    seeds: int,
    epochs: int | None,
    minutes: float | None,
    settings: Mapping[str, Any],
    out: Path,
) -> None:
    """Refuse to mix two comparisons; only more seeds may be asked for."""
    asked: dict[str, Any] = {
        "dataset": dataset,
        "encoders": encoders,
        "minutes": minutes,
        "settings": dict(settings),
        **({"seeds": seeds} if seeds < stored.seeds else {}),
    }
    if epochs is not None:
        asked["epochs"] = dict.fromkeys(encoders, epochs)
    for name, value in asked.items():
        if (before := getattr(stored, name)) != value:
            raise ConfigError(
                f"{out / PLAN}: {name} was {before!r} and is {value!r} now: a comparison goes on as it began; "
                "only more seeds may be added; choose another --out"
            )


def _plain(study: Study) -> dict[str, Any]:
    return {**asdict(study), "encoders": list(study.encoders)}
