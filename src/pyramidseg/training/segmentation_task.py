"""SegmentationTask as a task: what its steps, epochs and runs compute.

Legend: B batch, C channels, H W pixels, K classes.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyramidseg.backends import TorchBackend
from pyramidseg.base.config import Config, LossConfig
from pyramidseg.base.device import autocast, rank, sum_over_ranks
from pyramidseg.data.loading import Batch
from pyramidseg.data.records import Dataset
from pyramidseg.evaluation.confusion import argmax_labels, confusion_matrix
from pyramidseg.evaluation.evaluation_report import write_report
from pyramidseg.evaluation.metrics import compute_metrics
from pyramidseg.evaluation.score_plots import save_plots
from pyramidseg.evaluation.score_tables import format_scores
from pyramidseg.evaluation.scoring import draw_examples, score
from pyramidseg.inspection import DatasetSummary
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.checkpoint import TrainingProgress
from pyramidseg.training.losses import SMALLEST, Targets, labelled_weight, presence_loss, segmentation_loss
from pyramidseg.training.losses import validation_loss as loss_by_image
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.setup import Setup
from pyramidseg.training.step import Step
from pyramidseg.training.task import Columns, Validation

logger = logging.getLogger(__name__)


class TrainingModel(nn.Module):
    """The Segmenter as it is trained: logits, and those of the image-level head where it has one.

    One `forward` for both, because DistributedDataParallel sees only what goes through `forward`.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) to logits (B, K, H, W) and image-level logits (B, K) or None."""
        if self.segmenter.head is None:
            return self.segmenter(image_BCHW), None
        return self.segmenter.logits_with_image_logits(image_BCHW)


@dataclass(frozen=True)
class SegmentationTask:
    """The task of a segmentation run; see `Task`.

    Attributes:
        class_weights: (K,) on the device.
    """

    config: Config
    dataset: Dataset
    summary: DatasetSummary
    step: Step
    class_weights: Tensor

    watchable = (
        "train_loss",
        "train_error",
        "train_miou",
        "val_loss",
        "val_error",
        "val_miou",
        "val_class_accuracy",
        "val_dice",
    )
    headline = {"loss": ("train_loss", "val_loss"), "mIoU": ("train_miou", "val_miou"), "error": ("val_error",)}  # noqa: RUF012 - a constant

    def description(self) -> dict[str, Any]:
        """See `Task.description`."""
        return {
            **(self.dataset.description or self.dataset.classes.to_dict()),
            "recorded": {
                "source": self.dataset.source,
                "layout": self.dataset.layout,
                "notes": list(self.dataset.notes),
                "images": {name: len(records) for name, records in self.dataset.splits.items()},
            },
        }

    def identity(self) -> str:
        """See `Task.identity`."""
        return self.summary.fingerprint

    def names(self, indices: Sequence[int]) -> list[str]:
        """See `Task.names`."""
        records = self.dataset.split("train")
        return [records[index].id for index in indices]

    def empty_tally(self) -> Tensor:
        """A confusion matrix (K, K)."""
        count = len(self.dataset.classes)
        return torch.zeros(count, count, dtype=torch.int64, device=self.step.device)

    def gradients(self, model: nn.Module, batches: Sequence[Batch], number: int) -> tuple[Tensor, Tensor]:
        """See `Task.gradients`."""
        return segmentation_gradients(
            self.step, model, batches, number, loss=self.config.loss, class_weights=self.class_weights
        )

    def training_columns(self, tally: Tensor) -> Columns:
        """See `Task.training_columns`."""
        metrics = compute_metrics(tally.cpu(), self.dataset.classes, images=len(self.dataset.split("train")))
        return {"train_error": metrics.error, "train_miou": metrics.miou}

    def validate(self, model: nn.Module) -> Validation:
        """See `Task.validate`."""

        def logits_of(images: Tensor) -> Tensor:
            with torch.inference_mode(), autocast(self.step.precision, self.step.device):
                logits: Tensor = model(images.to(self.step.device))
            return self.step.widened(logits)

        scores = score(
            logits_of,
            self.dataset.split("val"),
            self.dataset.masks,
            self.dataset.classes,
            channels=self.config.model.channels,
            batch_size=self.config.train.val_batch_size,
            device=self.step.device,
            loss=lambda logits, labels: loss_by_image(logits, labels, self.class_weights, self.config.loss),
        )
        metrics = scores.metrics
        columns = {
            "val_loss": scores.loss,
            "val_error": metrics.error,
            "val_miou": metrics.miou,
            "val_class_accuracy": metrics.mean_class_accuracy,
            "val_dice": metrics.mean_dice,
        }
        return Validation(columns, {"metrics": metrics.to_dict(), "split": "val"})

    def save(self, model: nn.Module, path: Path, facts: Mapping[str, Any]) -> None:
        """A bundle."""
        assert isinstance(model, Segmenter)
        data = {
            "source": Path(self.dataset.source).name,
            "layout": self.dataset.layout,
            "fingerprint": self.summary.fingerprint,
        }
        model.save(path, **facts, data=data, crop=list(self.config.data.crop))

    def write_results(self, setup: Setup, run: RunFolder, position: TrainingProgress) -> None:
        """Score the best bundle as `pyramidseg evaluate` does, and write `plots/` and `report.html`."""
        backend = TorchBackend(run.best, device=self.step.device, precision="fp32")
        records, masks, classes = self.dataset.split("val"), self.dataset.masks, self.dataset.classes
        channels = self.config.model.channels
        scores = score(
            backend,
            records,
            masks,
            classes,
            channels=channels,
            batch_size=self.config.train.val_batch_size,
            device=self.step.device,
        )
        if rank() > 0:
            return
        examples = draw_examples(backend, records, masks, classes, scores, channels=channels, device=self.step.device)
        save_plots(run.plots, scores, history=position.history)
        write_report(
            run.report,
            title=f"{backend.model.encoder.name} FPN, {run.path.name}",
            scores=scores,
            classes=classes,
            examples=examples,
            history=position.history,
            settings=self.config.model_dump(mode="json"),
            facts={
                "source": self.dataset.source,
                "layout": self.dataset.layout,
                **{f"{name} images": split.images for name, split in self.summary.splits.items()},
                "data fingerprint": self.summary.fingerprint,
                **setup.facts(position),
            },
            notes=(*self.dataset.notes, *setup.notes),
        )
        logger.info(format_scores(scores.metrics))


def segmentation_gradients(
    step: Step, model: nn.Module, batches: Sequence[Batch], number: int, *, loss: LossConfig, class_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """`Task.gradients` of a `TrainingModel`; the tally is the confusion (K, K).

    The loss of the image-level head is learned from and not part of the loss that is returned: so training and
    validation loss are of the same thing.
    """
    labels = [step.to_device(batch.labels) for batch in batches]
    images = torch.tensor(sum(map(len, labels)), device=step.device)
    totals = sum_over_ranks(torch.stack([*(labelled_weight(part, class_weights) for part in labels), images]))
    weight_total, images_total = totals[:-1].sum().clamp_min(SMALLEST), int(totals[-1])
    confusion = torch.zeros(len(class_weights), len(class_weights), dtype=torch.int64, device=step.device)
    of_pixels = torch.zeros((), device=step.device, dtype=step.dtype)

    def share_of(index: int, output: tuple[Tensor, Tensor | None]) -> Tensor:
        logits, image_logits = output
        targets = Targets(labels[index], class_weights, weight_total, len(batches), loss.focal_gamma)
        share = segmentation_loss(logits, targets, loss)
        of_pixels.add_(share.detach())
        if image_logits is not None:
            share = share + loss.presence * presence_loss(
                step.widened(image_logits), labels[index], images_total=images_total
            )
        confusion.add_(confusion_matrix(argmax_labels(logits.detach()), labels[index], len(class_weights)))
        return share

    step.backward(model, batches, number, loss=share_of)
    return of_pixels, confusion
