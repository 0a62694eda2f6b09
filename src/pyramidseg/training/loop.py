"""Training, from a dataset to a run folder: `fit` is the loop, `train` its public face."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyramidseg.config import Config, full_name, given_settings, load_config
from pyramidseg.console import Console
from pyramidseg.data.inspection import DatasetSummary, check_dataset
from pyramidseg.data.readers import open_dataset
from pyramidseg.data.records import Dataset
from pyramidseg.evaluation.metrics import metrics_of
from pyramidseg.evaluation.scoring import Scores, score
from pyramidseg.model.bundle import save_bundle
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.runtime import (
    autocast,
    choose_device,
    on_first_rank,
    process_group,
    rank,
    share_buffers,
    sum_over_ranks,
)
from pyramidseg.training.checkpoint import Position, load_checkpoint, restore
from pyramidseg.training.epoch import checkpoint, run_epoch
from pyramidseg.training.events import EventLog
from pyramidseg.training.finish import write_results
from pyramidseg.training.history import check_watch, epoch_row, improves, row_in_words
from pyramidseg.training.interrupt import StopRequest
from pyramidseg.training.losses import validation_loss
from pyramidseg.training.run_folder import RunFolder, begin_run, open_run
from pyramidseg.training.setup import Setup, adopt_bundle_settings, prepare


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
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train on a dataset and leave model, figures and report in the folder `out`.

    Args:
        config: a `Config`, or a YAML file of settings.
        settings: single settings by their key (`epochs=30`), or by section and key (`optim__lr=1e-3`).

    Raises:
        PyramidSegError: anything about the input that cannot be used; nothing has been trained then.
    """
    overrides = {full_name(key): value for key, value in settings.items()}
    if isinstance(config, Config):
        overrides = given_settings(config) | overrides
        config = None
    resolved = load_config(config, overrides)
    return fit(resolved, dataset, out=Path(out), resume=resume, overwrite=overwrite, console=Console(quiet=quiet))


def fit(
    config: Config, source: str | Path | Dataset, *, out: Path, resume: bool, overwrite: bool, console: Console
) -> Run:
    """The whole of a training run."""
    with process_group(choose_device(config.train.device)):
        console.quiet = console.quiet or rank() > 0
        run, config = on_first_rank(lambda: open_run(out, config, resume=resume, overwrite=overwrite))
        setup = plan(config, source, console)
        on_first_rank(lambda: begin_run(run, setup.config, setup.dataset, resume=resume))
        position = Position()
        confusion = setup.no_confusion()
        if resume:
            position, confusion = continue_from(run, setup, console)
        if is_finished(position, setup.config) and run.report.exists():
            console.say(f"{run.path}: this run is finished; it is left as it is")
            return summarize(run, position)
        with closing(EventLog(run.events, position, active=rank() == 0)) as events, StopRequest() as stop:
            while not is_finished(position, setup.config):
                run_epoch(setup, run, position, confusion, stop, console)
                scores = validate(setup, console)
                close_epoch(setup, run, position, confusion, scores, events, console)
                confusion.zero_()
        checkpoint(setup, run, position, confusion)
        write_results(setup, run, position, console)
    return summarize(run, position)


def plan(config: Config, source: str | Path | Dataset, console: Console) -> Setup:
    """Check everything that can be checked before training, say what was chosen, and build what training needs.

    Raises:
        PyramidSegError: the first thing that cannot be used.
    """
    check_watch(config)
    config, taken = adopt_bundle_settings(config)
    dataset, summary = on_first_rank(lambda: checked_dataset(source, config, console))
    setup = prepare(config, dataset, summary)
    for note in (taken, *setup.notes):
        if note:
            console.say(note)
    return setup


def checked_dataset(source: str | Path | Dataset, config: Config, console: Console) -> tuple[Dataset, DatasetSummary]:
    """Open the dataset, say what was recognised, and check every mask of the splits that training uses."""
    dataset = open_dataset(source, config.data, track=console.track)
    console.say(f"{dataset.source}: {dataset.layout}")
    for note in dataset.notes:
        console.say(f"  {note}")
    dataset.split("train"), dataset.split("val")
    summary = check_dataset(dataset, splits=("train", "val"), channels=config.model.in_channels, track=console.track)
    for name, split in summary.splits.items():
        console.say(f"  {name}: {split.images} images")
    return dataset, summary


def continue_from(run: RunFolder, setup: Setup, console: Console) -> tuple[Position, Tensor]:
    """Restore the newest whole checkpoint, or start anew, aloud, where there is none yet."""
    found = load_checkpoint(run.checkpoints, identity=setup.identity, warn=console.warn)
    if found is None:
        console.say(f"{run.path}: no checkpoint yet, so training starts anew")
        return Position(), setup.no_confusion()
    tensors, position = found
    average = setup.average.model if setup.average else None
    stored = restore(tensors, model=setup.model, average=average, optimizer=setup.optimizer)
    console.say(f"{run.path}: resumed at epoch {position.epoch + 1}, step {position.step}")
    # The stored confusion is the sum over all processes: one of them carries it on.
    return position, stored.to(setup.device) if rank() == 0 else setup.no_confusion()


def validate(setup: Setup, console: Console) -> Scores:
    """Scores of the model that a bundle would hold: the average where there is one."""
    model = setup.average.model if setup.average else setup.model
    model.eval()
    share_buffers(model)
    config = setup.config

    def logits_of(images: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(setup.precision, setup.device):
            logits: Tensor = model(images.to(setup.device))
        return logits.double() if setup.precision == "fp64" else logits.float()

    records = setup.dataset.split("val")
    return score(
        logits_of,
        records,
        setup.dataset.masks,
        setup.dataset.classes,
        channels=config.model.in_channels,
        batch_size=config.train.val_batch_size,
        device=setup.device,
        loss=lambda logits, labels: validation_loss(logits, labels, setup.step.class_weights, config.loss),
        track=console.track,
    )


def close_epoch(
    setup: Setup,
    run: RunFolder,
    position: Position,
    confusion: Tensor,
    scores: Scores,
    events: EventLog,
    console: Console,
) -> None:
    """Write the epoch's row and bundles, note whether it was the best, and move the position to the next epoch."""
    training = metrics_of(sum_over_ranks(confusion).cpu(), setup.dataset.classes, images=setup.loader.plan.samples)
    row = epoch_row(setup, position, training, scores)
    position.history.append(row)
    watched = row[setup.config.train.watch]
    better = watched is not None and (
        position.best is None or improves(watched, position.best, setup.config.train.watch)
    )
    if better:
        position.best, position.best_epoch = watched, position.epoch
    patience = setup.config.train.patience
    position.stopped_early = bool(patience) and position.epoch - position.best_epoch >= patience
    if rank() == 0:
        run.write_metrics(position.history)
        events.row(row)
        save_epoch_bundle(setup, run.last, position, scores)
        if better:
            save_epoch_bundle(setup, run.best, position, scores)
    console.say(row_in_words(row, setup.config, better=better))
    if position.stopped_early:
        console.say(f"stopped early: {setup.config.train.watch} has not improved for {patience} epochs")
    position.epoch += 1
    position.step = position.counted = 0
    position.loss_sum = position.seconds = position.waited = 0.0


def save_epoch_bundle(setup: Setup, path: Path, position: Position, scores: Scores) -> None:
    """A bundle of the weights that were just validated, with their scores and origin."""
    model: Segmenter = setup.average.model if setup.average else setup.model
    save_bundle(
        model,
        path,
        facts={
            "metrics": scores.metrics.to_dict(),
            "split": "val",
            "epoch": position.epoch + 1,
            "ema": setup.config.optim.ema if setup.average else None,
            "data": {
                "source": Path(setup.dataset.source).name,
                "layout": setup.dataset.layout,
                "fingerprint": setup.summary.fingerprint,
            },
            "crop": list(setup.config.data.crop),
        },
    )


def is_finished(position: Position, config: Config) -> bool:
    """Whether nothing is left to train."""
    return position.stopped_early or position.epoch >= config.train.epochs


def summarize(run: RunFolder, position: Position) -> Run:
    """The finished run as Python sees it."""
    row = position.history[position.best_epoch] if position.history else {}
    miou = row.get("val_miou")
    return Run(
        run.path, run.best, run.last, run.report, tuple(position.history), float("nan") if miou is None else miou
    )
