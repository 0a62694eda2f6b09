"""Training on one page: `fit` from settings to a finished run folder, `train_epoch` step by step."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_

from pyramidseg.base.config import Config
from pyramidseg.base.device import choose_device, out_of_memory_explained
from pyramidseg.base.distributed import broadcast_buffers, on_first_rank, process_group, sum_over_ranks, world_size
from pyramidseg.base.log import ProgressTask
from pyramidseg.base.output_lock import locked
from pyramidseg.base.seeds import own_randomness
from pyramidseg.data.loading import worker_failures_explained
from pyramidseg.training.accelerator import StatisticsGuard, all_reduce_step, gradient_norm
from pyramidseg.training.checkpoint import Checkpoints, restore_checkpoint, run_identity, stored_initial_weights
from pyramidseg.training.components import TrainingComponents, build_components, compile_errors_explained
from pyramidseg.training.finite_checks import finite_scores, not_finite, require_finite, require_score, warn_of_skip
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.interrupt import Interrupted, StopRequest
from pyramidseg.training.optim import lr_factor, set_learning_rate
from pyramidseg.training.progress import TrainingProgress, epoch_row, format_row
from pyramidseg.training.run_folder import RunFolder, begin_run, device_of, open_run
from pyramidseg.training.task import Task, Validation
from pyramidseg.training.trackers import Trackers, check_trackers, open_trackers

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        best: bundle of the best epoch by `train.watch`; `miou` is its mIoU on the validation split.
        history: one row per epoch, as in metrics.csv.
    """

    folder: Path
    best: Path
    last: Path
    report: Path
    history: tuple[Mapping[str, Any], ...]
    miou: float


def fit(
    config: Config,
    prepare: Callable[[Config, InitialWeights | None], Task],
    *,
    out: Path,
    resume: bool,
    overwrite: bool,
    inputs: Sequence[str | Path] = (),
) -> Run:
    """Train a task, from its settings to a finished run folder.

    Args:
        prepare: checks data and settings, and builds data, model and loss. Its arguments are the settings, and for a
            resumed run the initial weights that the checkpoints record (otherwise None).
        inputs: files and folders that the run reads, which must not be inside `out`.

    Raises:
        PyramidSegError: as `train`.
        Interrupted: by a signal; all steps until then are saved.
    """
    with process_group(choose_device(device_of(out, config, resume=resume))), ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        for state in (own_randomness(), torch.inference_mode(mode=False), torch.enable_grad()):
            stack.enter_context(state)
        on_first_rank(lambda: stack.enter_context(locked(out)))

        # The run folder: whether it may be used, and the settings that a resumed run keeps. Nothing is written yet.
        run, config = on_first_rank(lambda: open_run(out, config, resume=resume, overwrite=overwrite, inputs=inputs))

        on_first_rank(lambda: check_trackers(config.train.track))

        # Data, model and loss; then optimizer, EMA, processes and loader. All input errors are raised here.
        task = prepare(config, stored_initial_weights(run.checkpoints) if resume else None)
        config = task.config
        components = build_components(task)
        trackers = open_trackers(config, run, resume=resume)
        on_first_rank(lambda: begin_run(run, config, task.description(), resume=resume, overwrite=overwrite))

        # Where to begin: at the start, or where the last checkpoint was written.
        identity = run_identity(config, run.config, task.fingerprint)
        progress, counts = TrainingProgress.start(task.accelerator.precision), task.empty_counts()
        if resume:
            progress, counts = restore_checkpoint(run, components, identity)
        if trackers:
            trackers.keep_ids()
            stack.callback(lambda: trackers.close(finished=progress.is_finished(config)))
        if progress.is_finished(config) and run.report.exists() and run.best.is_file():
            logger.info(f"{run.path}: this run is finished; nothing to do")
            return summarize(run, progress)

        # Epochs: steps, validation, bundles.
        components.loader.preload()
        checkpoints = Checkpoints(run, identity, config)
        with closing(components.loader), worker_failures_explained(), stop.deferred():
            try:
                while not progress.is_finished(config):
                    components = components.for_epoch(progress.epoch)
                    train_epoch(components, progress, counts, checkpoints=checkpoints, stop=stop)
                    require_finite(components, progress)
                    with stop.deferred(world_size() > 1):
                        validation = validate(components, progress, counts, checkpoints=checkpoints)
                    finish_epoch(components, run, progress, counts, validation, trackers)
                    counts.zero_()
            except Interrupted:  # between two steps, where everything is as a resumed run needs it
                checkpoints.save(components, progress, counts)
                saved = f"epoch {progress.epoch + 1}, step {progress.step}"
                raise Interrupted(f"interrupted; everything up to {saved} is saved: `resume=True` continues") from None
        checkpoints.save(components, progress, counts)

        # The report, from the best bundle.
        require_score(components, progress)
        while not components.report_that_fits(run, progress):
            checkpoints.save(components, progress, counts)  # a resumed run has the same batches
        summary = progress.summary()
        logger.info(f"trained in {summary['training time']}; waiting for data: {summary['waiting for data']}")
        logger.info(f"best epoch {progress.best_epoch + 1}: {run.best}")
        logger.info(f"report: {run.report}")
        if stop.requested:  # the signal came during the last validation, after all steps
            raise Interrupted(f"interrupted after the last step; {run.path} is complete")
    return summarize(run, progress)


def train_epoch(
    components: TrainingComponents,
    progress: TrainingProgress,
    counts: Tensor,
    *,
    checkpoints: Checkpoints,
    stop: StopRequest,
) -> None:
    """Train from the current step to the end of the epoch; updates `progress` and `counts` in place.

    Raises:
        TrainingError: too many steps in a row were not finite.
        Interrupted: a stop was requested; the last step is complete.
    """
    config, plan = components.config, components.loader.plan
    model, optimizer = components.model, components.optimizer
    guard = StatisticsGuard(model)
    clock = time.monotonic()
    batches_of_steps = components.loader.steps(progress.epoch, start=progress.step)
    batch = f"train.batch_size={config.train.batch_size} or " if world_size() > 1 else ""
    advice = f"lower {batch}data.crop={[*config.data.crop]}, in a new run"
    with (
        closing(batches_of_steps),
        ProgressTask(f"epoch {progress.epoch + 1}/{config.train.epochs}", total=plan.steps, done=progress.step) as bar,
        out_of_memory_explained(advice),
        compile_errors_explained() if config.train.compile != "none" else nullcontext(),
    ):
        for batches, waited in _timed(batches_of_steps, stop):
            number = progress.epoch * plan.steps + progress.step
            set_learning_rate(optimizer, lr_factor(config, number, steps_an_epoch=plan.steps))

            # Forward, loss and backward: the gradients of this process, and its confusion counts.
            guard.store()
            optimizer.zero_grad(set_to_none=True)
            while (gradients := components.gradients_that_fit(batches, progress, number)) is None:
                guard.restore()
                optimizer.zero_grad(set_to_none=True)
                checkpoints.save(components, progress, counts)  # a resumed run has the same batches
            loss_share, step_counts = gradients

            # What all processes know of the step: its loss, whether it may be taken, and what comes after it.
            norm, is_due = gradient_norm(model), checkpoints.is_due(number + 1)
            step = all_reduce_step(loss_share, norm + guard.norm(), stop=stop.requested, save=is_due)

            # The update of weights and EMA; a step that is not finite is skipped.
            if step.is_finite:
                update_weights(components, norm, updates=progress.updates)
                counts += step_counts
            else:
                guard.restore()
                if not progress.is_overflow_expected():
                    warn_of_skip(components, batches, progress)
            progress.count_step(step.loss if step.is_finite else None)
            progress.waited += waited
            progress.seconds, clock = progress.seconds + time.monotonic() - clock, time.monotonic()
            if progress.skipped_in_a_row >= config.train.max_skipped_steps:
                checkpoints.save(components, progress, counts)
                raise not_finite(components, batches, progress, step.loss)
            bar.advance(note=progress.note())
            if step.stops:
                raise Interrupted
            if step.saves:
                checkpoints.save(components, progress, counts)


def update_weights(components: TrainingComponents, norm: Tensor, *, updates: int) -> None:
    """Clip the gradients, whose L2 norm is `norm`, step, and move the averaged weights; `updates` came before."""
    model, clip_norm = components.model, components.config.optim.clip_norm
    if clip_norm:
        clip_grads_with_norm_(model.parameters(), clip_norm, norm)
    components.optimizer.step()
    if components.ema:
        components.ema.update(model, updates)


def validate(
    components: TrainingComponents, progress: TrainingProgress, counts: Tensor, *, checkpoints: Checkpoints
) -> Validation:
    """Score the model that a bundle would store."""
    model = components.saved_model
    model.eval()
    broadcast_buffers(model)
    batch = f"lower train.val_batch_size={components.config.train.val_batch_size}, or " if world_size() > 1 else ""
    with out_of_memory_explained(f"{batch}cut up the largest val images, in a new run"):
        while (validation := components.validation_that_fits(progress)) is None:
            checkpoints.save(components, progress, counts)  # a resumed run has the same batches
        return finite_scores(validation, components, progress)


def finish_epoch(
    components: TrainingComponents,
    run: RunFolder,
    progress: TrainingProgress,
    counts: Tensor,
    validation: Validation,
    trackers: Trackers | None,
) -> None:
    """Write the epoch's row and bundles, tell the trackers, and move `progress` on to the next epoch."""
    task, config = components.task, components.config
    training, (columns, metadata) = task.training_columns(sum_over_ranks(counts)), validation
    row = epoch_row(progress, config, components.loader.plan, training=training, validation=columns)
    is_best = progress.close_epoch(row, config)
    if trackers is not None:  # on the first rank
        run.write_metrics(progress.history)
        trackers.log(row)
        ema = config.optim.ema if components.ema else None
        for path in (run.last, run.best) if is_best else (run.last,):
            task.save(components.saved_model, path, {**metadata, "epoch": row["epoch"], "ema": ema})
    logger.info(format_row(row, task.headline, epochs=config.train.epochs, is_best=is_best))
    if progress.stopped_early:
        logger.info(f"stopped early: {config.train.watch} has not improved for {config.train.patience} epochs")


def summarize(run: RunFolder, progress: TrainingProgress) -> Run:
    """The finished run as Python sees it; the mIoU of a classifier is NaN."""
    miou = progress.history[progress.best_epoch].get("val_miou")
    miou = float("nan") if miou is None else miou
    return Run(run.path, run.best, run.last, run.report, tuple(progress.history), miou)


def _timed(items: Iterator[T], stop: StopRequest) -> Iterator[tuple[T, float]]:
    """Each item, and the seconds that were spent waiting for it; a process that trains alone can be stopped then."""
    while True:
        began = time.monotonic()
        with stop.deferred(world_size() > 1):
            item = next(items, None)
        if item is None:
            return
        yield item, time.monotonic() - began
