"""Training, from a dataset to a run folder: `fit` is the loop, `train` its public face."""

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from pyramidseg.base.config import Config
from pyramidseg.base.device import (
    choose_device,
    on_first_rank,
    out_of_memory_explained,
    process_group,
    rank,
    share_buffers,
    sum_over_ranks,
    world_size,
)
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.overrides import full_name, given_settings, load_config
from pyramidseg.base.train_overrides import TrainOverrides
from pyramidseg.data.normalization import Normalization, measure_normalization, uses_dataset_statistics
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection import DatasetSummary, check_dataset
from pyramidseg.model.encoder import check_encoder
from pyramidseg.training.build import adopt_bands, adopt_bundle_settings, prepare
from pyramidseg.training.checkpoint import InitialWeights, TrainingProgress, load_checkpoint, restore, stored_origin
from pyramidseg.training.epoch import CheckpointClock, checkpoint, require_finite, run_epoch
from pyramidseg.training.history import check_watch, epoch_row, format_row, improves
from pyramidseg.training.interrupt import Interrupted, StopRequest
from pyramidseg.training.optim import choose_optimizer
from pyramidseg.training.run_folder import RunFolder, begin_run, device_of, open_run
from pyramidseg.training.segmentation_task import SegmentationTask
from pyramidseg.training.setup import Setup, make_step
from pyramidseg.training.task import Validation
from pyramidseg.training.trackers import EventLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        best: bundle of the best epoch by the watched value; `miou` is its mIoU on the validation split.
        history: a row an epoch, as in metrics.csv.
    """

    folder: Path
    best: Path
    last: Path
    report: Path
    history: tuple[Mapping[str, Any], ...]
    miou: float


def train(
    dataset: str | Path | Dataset,
    *,
    out: str | Path,
    config: Config | str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Unpack[TrainOverrides],
) -> Run:
    """Train on a dataset and leave model, figures and report in the folder `out`.

    Args:
        config: a `Config`, or a YAML file of settings; `make_config` makes one of nested dictionaries.
        settings: single settings by their key (`epochs=30`), or by section and key (`optim__lr=1e-3`).

    Raises:
        PyramidSegError: anything about the input that cannot be used; nothing has been trained then.
    """
    overrides = {full_name(key): value for key, value in settings.items()}
    if isinstance(config, Config):
        overrides = given_settings(config) | overrides
        config = None
    elif not isinstance(config, (str, Path, type(None))):
        raise ConfigError(f"config={config!r}: a Config or a YAML file is needed; make_config makes a Config of it")
    resolved = load_config(config, overrides)
    return fit(resolved, dataset, out=Path(out), resume=resume, overwrite=overwrite)


def fit(config: Config, source: str | Path | Dataset, *, out: Path, resume: bool, overwrite: bool) -> Run:
    """The whole of a segmentation run."""
    return run_task(
        config,
        lambda resolved, origin: plan(resolved, source, origin),
        out=out,
        resume=resume,
        overwrite=overwrite,
    )


def run_task(
    config: Config, make: Callable[[Config, InitialWeights | None], Setup], *, out: Path, resume: bool, overwrite: bool
) -> Run:
    """The whole of a run, whatever it learns.

    Args:
        make: checks everything and builds what training needs, from the settings as a resumed run has them, and from
            its origin where checkpoints have its weights.
    """
    with process_group(choose_device(device_of(out, config, resume=resume))):
        run, config = on_first_rank(lambda: open_run(out, config, resume=resume, overwrite=overwrite))
        setup = make(config, stored_origin(run.checkpoints) if resume else None)
        on_first_rank(lambda: begin_run(run, setup.config, setup.task.description(), resume=resume))
        position, tally = TrainingProgress(), setup.task.empty_tally()
        if resume:
            position, tally = continue_from(run, setup)
        if is_finished(position, setup.config):
            run.require_bundles()
            if run.report.exists():
                logger.info(f"{run.path}: this run is finished; it is left as it is")
                return summarize(run, position)
        setup.loader.preload()
        checkpoints = CheckpointClock(setup.config)
        with (
            closing(setup.loader),
            closing(EventLog(run.events, position, active=rank() == 0)) as events,
            StopRequest() as stop,
        ):
            while not is_finished(position, setup.config):
                setup = setup.for_epoch(position.epoch)
                run_epoch(
                    setup,
                    run,
                    position,
                    tally,
                    checkpoints=checkpoints,
                    stop=stop,
                )
                require_finite(setup, position)
                close_epoch(setup, run, position, tally, validate(setup), events)
                tally.zero_()
        checkpoint(setup, run, position, tally)
        setup.task.write_results(setup, run, position)
        facts = setup.facts(position)
        logger.info(f"trained in {facts['training time']}; waiting for data: {facts['waiting for data']}")
        logger.info(f"best epoch {position.best_epoch + 1}: {run.best}")
        logger.info(f"report: {run.report}")
        if stop.requested:  # while the last epoch was validated, after which there was no step to stop at
            raise Interrupted(f"interrupted; {run.path} was finished all the same")
    return summarize(run, position)


def plan(config: Config, source: str | Path | Dataset, origin: InitialWeights | None = None) -> Setup:
    """Check everything that can be checked before training, say what was chosen, and build what training needs.

    Args:
        origin: of a run that goes on, whose weights a checkpoint has, and whose settings are made out.

    Raises:
        PyramidSegError: the first thing that cannot be used.
    """
    check_watch(config.train.watch, SegmentationTask.watchable)
    config, taken = (config, "") if origin else adopt_bundle_settings(config)
    config, optimizer = choose_optimizer(config)
    make_step(config)  # a device or a network that cannot be had is refused before any mask is read
    check_encoder(config.model)
    dataset, summary, normalization = on_first_rank(lambda: checked_dataset(source, config))
    setup = prepare(adopt_bands(config, dataset), dataset, summary, normalization, origin)
    for note in (taken, *setup.notes, optimizer):
        if note:
            logger.info(note)
    return setup


def checked_dataset(
    source: str | Path | Dataset, config: Config
) -> tuple[Dataset, DatasetSummary, Normalization | None]:
    """Open the dataset, say what was recognised, and check every mask of the splits that training uses.

    Returns:
        The dataset, what is in it, and mean and deviation of its training images where the network needs them.
    """
    dataset = open_dataset(source, config.data)
    logger.info(f"{dataset.source}: {dataset.layout}")
    for note in dataset.notes:
        logger.info(f"  {note}")
    dataset.split("train"), dataset.split("val")
    channels = adopt_bands(config, dataset).model.channels
    summary = check_dataset(dataset, splits=("train", "val"), channels=channels)
    for name, split in summary.splits.items():
        logger.info(f"  {name}: {split.images} images")
    for note in summary.notes:
        logger.warning(note)
    dtypes, pretrained = summary.splits["train"].dtypes, config.model.weights != "random"
    if not uses_dataset_statistics(config.data.normalization, dtypes=dtypes, channels=channels, pretrained=pretrained):
        return dataset, summary, None
    return dataset, summary, measure_normalization(dataset.split("train"), channels=channels)


def continue_from(run: RunFolder, setup: Setup) -> tuple[TrainingProgress, Tensor]:
    """Restore the newest whole checkpoint, or start anew, aloud, where there is none yet."""
    found = load_checkpoint(run.checkpoints, identity=setup.identity, processes=world_size())
    if found is None:
        logger.info(f"{run.path}: no checkpoint yet, so training starts anew")
        return TrainingProgress(), setup.task.empty_tally()
    tensors, position = found
    average = setup.average.model if setup.average else None
    stored = restore(tensors, model=setup.model, average=average, optimizer=setup.optimizer)
    logger.info(f"{run.path}: resumed at epoch {position.epoch + 1}, step {position.step}")
    # The stored tally is the sum over all processes: one of them carries it on.
    return position, stored.to(setup.device) if rank() == 0 else setup.task.empty_tally()


def validate(setup: Setup) -> Validation:
    """Scores of the model that a bundle would hold: the average where there is one."""
    model = setup.average.model if setup.average else setup.model
    model.eval()
    share_buffers(model)
    with out_of_memory_explained(f"lower train.val_batch_size={setup.config.train.val_batch_size}"):
        return setup.task.validate(model)


def close_epoch(
    setup: Setup, run: RunFolder, position: TrainingProgress, tally: Tensor, found: Validation, events: EventLog
) -> None:
    """Write the epoch's row and bundles, note whether it was the best, and move the position to the next epoch."""
    row = epoch_row(setup, position, setup.task.training_columns(sum_over_ranks(tally)), found.columns)
    position.history.append(row)
    watched = row[setup.config.train.watch]
    # An epoch without a watched value, as where every step was skipped, is better than none: `best` is always there.
    better = position.best is None or (
        watched is not None and improves(watched, position.best, setup.config.train.watch)
    )
    if better:
        position.best, position.best_epoch = watched, position.epoch
    patience = setup.config.train.patience
    position.stopped_early = bool(patience) and position.epoch - position.best_epoch >= patience
    if rank() == 0:
        run.write_metrics(position.history)
        events.row(row)
        model = setup.average.model if setup.average else setup.model
        ema = setup.config.optim.ema if setup.average else None
        for path in (run.last, run.best) if better else (run.last,):
            setup.task.save(model, path, {**found.facts, "epoch": position.epoch + 1, "ema": ema})
    logger.info(format_row(row, setup, better=better))
    if position.stopped_early:
        logger.info(f"stopped early: {setup.config.train.watch} has not improved for {patience} epochs")
    position.epoch += 1
    position.step = position.counted = 0
    position.loss_sum = position.seconds = position.waited = 0.0


def is_finished(position: TrainingProgress, config: Config) -> bool:
    """Whether nothing is left to train."""
    return position.stopped_early or position.epoch >= config.train.epochs


def summarize(run: RunFolder, position: TrainingProgress) -> Run:
    """The finished run as Python sees it."""
    row = position.history[position.best_epoch] if position.history else {}
    miou = row.get("val_miou")
    return Run(
        run.path, run.best, run.last, run.report, tuple(position.history), float("nan") if miou is None else miou
    )
