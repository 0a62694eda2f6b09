"""Weights, losses and images that are not finite: the errors that name what is wrong."""

import logging
import math
from collections.abc import Sequence

import torch

from pyramidseg.base.errors import TrainingError
from pyramidseg.base.text import first_few
from pyramidseg.data.loading import Batch
from pyramidseg.training.components import TrainingComponents
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.task import Validation

logger = logging.getLogger(__name__)

LARGEST_VALUE = 1e15
"""Values from here on overflow when a network squares them, whatever the learning rate."""


def require_finite(components: TrainingComponents, progress: TrainingProgress) -> None:
    """Refuse weights that an update has made overflow, before they are validated or saved.

    Raises:
        TrainingError: a weight or a statistic is not finite; what was saved before is kept.
    """
    models = (components.model, components.ema.model) if components.ema else (components.model,)
    tensors = [tensor for model in models for tensor in model.state_dict().values() if tensor.is_floating_point()]
    if not math.isfinite(torch.nn.utils.get_total_norm(tensors).item()):
        raise TrainingError(
            f"the weights are not finite after epoch {progress.epoch + 1}, step {progress.step}: an update overflowed; "
            f"what was saved before is kept. Lower optim.lr={components.config.optim.peak_lr:g}"
        )


def finite_scores(validation: Validation, components: TrainingComponents, progress: TrainingProgress) -> Validation:
    """The validation of an epoch, without scores where its loss is not finite: such logits have no classes."""
    columns, metadata = validation
    if math.isfinite(columns["val_loss"] or 0.0):
        return validation
    logger.warning(
        f"epoch {progress.epoch + 1}: not scored, as the validation loss is not finite; if this stays, training has "
        f"diverged: lower optim.lr={components.config.optim.peak_lr:g}"
    )
    return dict.fromkeys(columns), {name: value for name, value in metadata.items() if name != "metrics"}


def require_score(components: TrainingComponents, progress: TrainingProgress) -> None:
    """Refuse a run whose best epoch has no scores, before its report.

    Raises:
        TrainingError: the model of the best epoch cannot predict.
    """
    if progress.history[progress.best_epoch]["val_loss"] is None:
        config = components.config
        raise TrainingError(
            f"the validation loss after epoch {progress.best_epoch + 1}, the best by {config.train.watch}, is not "
            f"finite: training has diverged. Lower optim.lr={config.optim.peak_lr:g} in a new run"
        )


def not_finite(
    components: TrainingComponents, batches: Sequence[Batch], progress: TrainingProgress, loss: float
) -> TrainingError:
    """The error after too many steps that were not finite: which images, and what to try."""
    number = f"{progress.skipped_in_a_row} steps"
    if huge := _huge_value(components, batches):
        return TrainingError(
            f"{huge}, with which {number} were not finite; the last good state is kept. Correct this image, or remove "
            "it from the dataset"
        )
    return TrainingError(
        f"the loss ({loss}), its gradient or the statistics of the normalisation layers were not finite in "
        f"{number} in a row, the last one on images {first_few(_names(components, batches), limit=8)}; the last good "
        f"state is kept. Check these images, or lower optim.lr={components.config.optim.peak_lr:g}"
    )


def warn_of_skip(components: TrainingComponents, batches: Sequence[Batch], progress: TrainingProgress) -> None:
    """Tell about the first step of a run that is skipped; metrics.csv counts all of them."""
    if progress.skipped == 0:
        images = f"its images are {first_few(_names(components, batches), limit=8)}"
        logger.warning(
            f"epoch {progress.epoch + 1}, step {progress.step + 1}: skipped, as its loss or gradient is not finite; "
            f"{_huge_value(components, batches) or images}"
        )


def _huge_value(components: TrainingComponents, batches: Sequence[Batch]) -> str:
    """The first image of a step with a value that no network can take, and this value; empty if there is none."""
    images = [image for batch in batches for image in batch.images]
    for name, image in zip(_names(components, batches), images, strict=True):
        if image.is_floating_point() and not (largest := image.abs().max().item()) < LARGEST_VALUE:
            return f"image {name} contains the value {largest:.3g}"
    return ""


def _names(components: TrainingComponents, batches: Sequence[Batch]) -> Sequence[str]:
    return components.task.names([index for batch in batches for _, index in batch.keys])
