"""The state of a run between the loop and its checkpoint files: saved when due, and restored."""

import logging
from dataclasses import dataclass

from torch import Tensor

from pyramidseg.base.device import rank, sum_over_ranks, world_size
from pyramidseg.training.checkpoint import (
    CheckpointClock,
    Identity,
    load_checkpoint,
    restore,
    save_checkpoint,
    unreadable,
)
from pyramidseg.training.components import TrainingComponents
from pyramidseg.training.finite_checks import require_finite
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import RunFolder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """Where, for which run and when checkpoints are saved."""

    run: RunFolder
    identity: Identity
    clock: CheckpointClock

    def save(self, components: TrainingComponents, progress: TrainingProgress, counts: Tensor) -> None:
        """Save all that resuming needs; called on all processes, the first one writes.

        Raises:
            TrainingError: the weights are not finite.
        """
        require_finite(components, progress)
        total = sum_over_ranks(counts)
        if rank() == 0:
            save_checkpoint(
                self.run.checkpoints,
                progress,
                steps_done=progress.epoch * components.loader.plan.steps + progress.step,
                model=components.model,
                ema=components.ema.model if components.ema else None,
                optimizer=components.optimizer,
                counts=total,
                identity=self.identity,
                initial_weights=components.task.initial_weights,
                processes=world_size(),
            )
        self.clock.restart()


def restore_checkpoint(
    run: RunFolder, components: TrainingComponents, identity: Identity
) -> tuple[TrainingProgress, Tensor]:
    """Restore the newest intact checkpoint, or start from scratch with a message if there is none yet."""
    found = load_checkpoint(run.checkpoints, identity=identity, processes=world_size())
    if found is None:
        logger.info(f"{run.path}: no checkpoint yet; training starts from scratch")
        return TrainingProgress(), components.task.empty_counts()
    tensors, progress, path = found
    ema, empty = components.ema.model if components.ema else None, components.task.empty_counts()
    try:
        counts = restore(tensors, model=components.model, ema=ema, optimizer=components.optimizer, counts=empty)
    except ValueError as error:
        raise unreadable(path, error) from None
    logger.info(f"{run.path}: resumed at epoch {progress.epoch + 1}, step {progress.step}")
    # The stored counts are the sum over all processes: the first one continues them.
    device = components.task.accelerator.device
    return progress, counts.to(device) if rank() == 0 else empty
