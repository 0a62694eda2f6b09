"""Training of segmentation models: `train` is the public function, `fit` of `training/loop.py` does it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from pyramidseg.base.config import Config
from pyramidseg.base.overrides import full_name, resolve_config
from pyramidseg.base.train_overrides import TrainOverrides
from pyramidseg.data.records import Dataset, DatasetSource
from pyramidseg.training.auto_plan import plan_minutes, prepare_automatically
from pyramidseg.training.components import TrainingComponents, build_components
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.loop import Run, fit
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.segmentation_task import prepare_segmentation
from pyramidseg.training.task import Task


def train(
    dataset: DatasetSource,
    *,
    out: str | Path,
    config: Config | str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    auto: bool = False,
    minutes: float | None = None,
    **settings: Unpack[TrainOverrides],
) -> Run:
    """Train on a dataset and write bundles, metrics and a report to the folder `out`.

    Args:
        dataset: a folder whose layout is recognised, a dataset YAML file, several of both, or a `Dataset`.
        out: folder of the run; it must not exist, except with `resume` or `overwrite`.
        config: a `Config`, or a YAML file of settings; `make_config` builds one from nested dictionaries.
        resume: continue the run in `out` from its last checkpoint.
        overwrite: discard the run in `out`.
        auto: choose the settings that are not given for this dataset and machine; a resumed run keeps its own.
        minutes: with `auto`, the time of the whole run.
        settings: single settings by key (`epochs=30`).

    Raises:
        PyramidSegError: the settings, the data or the run folder cannot be used; nothing has been trained.
        TrainingError: training cannot continue, for instance because losses are not finite; the last good state is
            saved.
    """
    overrides = {full_name(key): value for key, value in settings.items()}
    resolved = resolve_config(config, overrides)
    inputs = (config,) if isinstance(config, (str, Path)) else ()
    how = {"resume": resume, "overwrite": overwrite, "plan_minutes": plan_minutes(minutes, auto=auto)}
    return train_segmentation(resolved, dataset, out=Path(out), inputs=inputs, **how)  # type: ignore[arg-type]


def train_segmentation(
    config: Config,
    source: DatasetSource,
    *,
    out: Path,
    resume: bool,
    overwrite: bool,
    inputs: Sequence[str | Path] = (),
    plan_minutes: float | None = None,
) -> Run:
    """`fit` a segmentation model to a dataset; `inputs` are files that are read besides dataset and weights."""
    inputs = (*inputs, *run_inputs(config, source))
    has_settings = resume and RunFolder(out).config.is_file()

    def prepare(resolved: Config, initial: InitialWeights | None) -> Task:
        if plan_minutes is not None and not has_settings:
            return prepare_automatically(resolved, source, minutes=plan_minutes)
        return prepare_segmentation(resolved, source, initial)

    return fit(config, prepare, out=out, resume=resume, overwrite=overwrite, inputs=inputs)


def run_inputs(config: Config, source: DatasetSource) -> tuple[str | Path, ...]:
    """Dataset, unlabelled images and weights that a run reads, as far as they are files or folders."""
    data = source.source if isinstance(source, Dataset) else source
    folders = (*([data] if isinstance(data, (str, Path)) else data), *filter(None, [config.data.unlabeled]))
    return (*folders, config.model.weights, config.model.encoder_weights)


def plan_segmentation(
    config: Config, source: DatasetSource, *, dry_run: bool = False, plan_minutes: float | None = None
) -> TrainingComponents:
    """Everything that precedes the first step of a segmentation run, without a run folder; a dry run ends here."""
    if plan_minutes is not None:
        return build_components(prepare_automatically(config, source, minutes=plan_minutes, dry_run=dry_run))
    return build_components(prepare_segmentation(config, source, dry_run=dry_run))
