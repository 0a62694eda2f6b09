"""One epoch of training: step after step, with what has to hold between them."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor

from pyramidseg.base.config import Config
from pyramidseg.base.device import out_of_memory_explained, rank, sum_over_ranks, world_size
from pyramidseg.base.errors import TrainingError
from pyramidseg.base.log import ProgressTask
from pyramidseg.base.text import first_few
from pyramidseg.data.loading import Batch
from pyramidseg.training.checkpoint import TrainingProgress, save_checkpoint
from pyramidseg.training.interrupt import Interrupted, StopRequest
from pyramidseg.training.optim import factor_at, set_learning_rate
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.setup import Setup
from pyramidseg.training.step import StatisticsGuard, clip_gradients, gradient_norm

T = TypeVar("T")


class CheckpointClock:
    """When a checkpoint is due, by steps or by time; it runs on from epoch to epoch.

    Args:
        now: seconds, monotonic.
    """

    def __init__(self, config: Config, now: Callable[[], float] = time.monotonic) -> None:
        self._steps = config.train.checkpoint_steps
        self._seconds = 60 * config.train.checkpoint_minutes
        self._now = now
        self._saved_at = now()

    def is_due(self, steps_done: int) -> bool:
        """Whether a checkpoint is due after so many steps of the run."""
        by_steps = self._steps and steps_done % self._steps == 0
        by_time = self._seconds and self._now() - self._saved_at >= self._seconds
        return bool(by_steps or by_time)

    def saved(self) -> None:
        """A checkpoint has been written: time counts from now on."""
        self._saved_at = self._now()


def run_epoch(
    setup: Setup,
    run: RunFolder,
    position: TrainingProgress,
    tally: Tensor,
    *,
    checkpoints: CheckpointClock,
    stop: StopRequest,
) -> None:
    """Train from the position's step to the epoch's end; `tally` and `position` are brought forward in place."""
    config, plan = setup.config, setup.loader.plan
    guard = StatisticsGuard(setup.model)
    clock = time.monotonic()
    advice = f"lower train.batch_size={config.train.batch_size} or data.crop={config.data.crop}"
    batches = setup.loader.steps(position.epoch, start=position.step)
    title = f"epoch {position.epoch + 1}/{config.train.epochs}"
    with (
        closing(batches),
        ProgressTask(title, total=plan.steps, done=position.step) as bar,
        out_of_memory_explained(advice),
        compiling_explained() if config.train.compile != "none" else nullcontext(),
    ):
        for number, (step_batches, waited) in enumerate(
            timed(batches), start=position.epoch * plan.steps + position.step
        ):
            set_learning_rate(setup.optimizer, factor_at(config, number, steps_an_epoch=plan.steps))
            guard.keep()
            setup.optimizer.zero_grad(set_to_none=True)
            share, step_tally = setup.task.gradients(setup.wrapped, step_batches, number)
            norm = gradient_norm(setup.model)
            size = norm + guard.norm()
            save_due = checkpoints.is_due(number + 1)
            # One exchange, and one wait for a GPU, for all that has to be known and agreed on after a step.
            wishes = torch.stack([share, size.to(share), share.new_tensor(stop.requested), share.new_tensor(save_due)])
            loss, sizes, stop_wished, save_wished = sum_over_ranks(wishes).tolist()
            if math.isfinite(loss) and math.isfinite(sizes):
                clip_gradients(setup.model, norm, config.optim.clip_norm)
                setup.optimizer.step()
                if setup.average:
                    setup.average.update(setup.model, position.updates)
                position.updates += 1
                position.loss_sum += loss
                position.counted += 1
                position.skipped_in_a_row = 0
                tally += step_tally
            else:
                guard.undo()
                position.skipped += 1
                position.skipped_in_a_row += 1
            position.step += 1
            position.waited += waited
            position.seconds, clock = position.seconds + time.monotonic() - clock, time.monotonic()
            if position.skipped_in_a_row >= config.train.max_skipped_steps:
                checkpoint(setup, run, position, tally)
                raise TrainingError(not_finite(setup, step_batches, position, loss))
            bar.advance(note=progress_note(position))
            if stop_wished:
                checkpoint(setup, run, position, tally)
                done = f"epoch {position.epoch + 1}, step {position.step}"
                raise Interrupted(f"interrupted; everything up to {done} is saved: --resume continues")
            if save_wished:
                checkpoint(setup, run, position, tally)
                checkpoints.saved()


@contextmanager
def compiling_explained() -> Iterator[None]:
    """Turn a failure of `torch.compile`, for want of a compiler for instance, into one line."""
    from torch._dynamo.exc import TorchDynamoException  # seconds to import, for few runs
    from torch._inductor.exc import InductorError

    try:
        yield
    except (TorchDynamoException, InductorError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TrainingError(f"train.compile: torch.compile failed ({reason}); choose train.compile=none") from error


def checkpoint(setup: Setup, run: RunFolder, position: TrainingProgress, tally: Tensor) -> None:
    """Save everything that resuming needs; all processes take part, the first one writes.

    Raises:
        TrainingError: what would be saved is not finite.
    """
    require_finite(setup, position)
    total = sum_over_ranks(tally)
    if rank() > 0:
        return
    save_checkpoint(
        run.checkpoints,
        position,
        steps_done=position.epoch * setup.loader.plan.steps + position.step,
        model=setup.model,
        average=setup.average.model if setup.average else None,
        optimizer=setup.optimizer,
        tally=total,
        identity=setup.identity,
        origin=setup.origin,
        processes=world_size(),
    )


def require_finite(setup: Setup, position: TrainingProgress) -> None:
    """Refuse weights that an update has made overflow, before anything is made of them.

    Raises:
        TrainingError: what was saved before is kept.
    """
    models = (setup.model, setup.average.model) if setup.average else (setup.model,)
    tensors = [tensor for model in models for tensor in model.state_dict().values() if tensor.is_floating_point()]
    if not math.isfinite(torch.nn.utils.get_total_norm(tensors).item()):
        raise TrainingError(
            f"the weights are not finite after epoch {position.epoch + 1}, step {position.step}: an update overflowed; "
            f"what was saved before is kept. Lower optim.lr={setup.config.optim.peak_lr:g}"
        )


def timed(items: Iterator[T]) -> Iterator[tuple[T, float]]:
    """Each item with the seconds that were spent waiting for it."""
    while True:
        began = time.monotonic()
        item = next(items, None)
        if item is None:
            return
        yield item, time.monotonic() - began


def progress_note(position: TrainingProgress) -> str:
    """Mean loss so far, and skipped steps where there are any."""
    loss = f"loss {position.loss_sum / position.counted:.3f}" if position.counted else ""
    return f"{loss} skipped {position.skipped}" if position.skipped else loss


def not_finite(setup: Setup, batches: Sequence[Batch], position: TrainingProgress, loss: float) -> str:
    """What to say when step after step is not finite: which images, and what to try."""
    names = setup.task.names([index for batch in batches for _, index in batch.keys])
    return (
        f"loss {loss}, its gradient or the norms' statistics were not finite in {position.skipped_in_a_row} steps in a "
        f"row, the last one on images {first_few(names, limit=8)}; the last good state "
        f"is kept. Check these images, or lower optim.lr={setup.config.optim.peak_lr:g}"
    )
