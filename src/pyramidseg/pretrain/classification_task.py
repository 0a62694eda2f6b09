"""Pretraining as a `Task`: an encoder with its fully connected layer, trained on one folder of images per class.

Legend: B batch, K classes.
"""

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyramidseg.base.config import Config, TrainConfig
from pyramidseg.base.device import autocast, channels_last, out_of_memory_explained, sum_dtype
from pyramidseg.base.distributed import on_first_rank, rank, sum_over_ranks, world_size
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.files import write_bytes, write_text
from pyramidseg.base.log import track
from pyramidseg.base.overrides import given_settings, load_config
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.seeds import position_seed
from pyramidseg.data.loading import Batch
from pyramidseg.data.normalization import Normalization, measure_normalization, uses_dataset_statistics
from pyramidseg.data.records import Record
from pyramidseg.images.decode import read_image
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.encoder import check_encoder
from pyramidseg.pretrain.image_folders import (
    ClassificationSamples,
    ImageFolders,
    center_crop,
    check_images,
    open_image_folders,
)
from pyramidseg.report.figures import training_curves
from pyramidseg.report.page import PageFigure, render_page, svg_uri
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.components import plan_epochs
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.optim import choose_optimizer
from pyramidseg.training.progress import TrainingProgress, check_watch
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.task import Columns, Ema, Task, Validation

logger = logging.getLogger(__name__)

TOP = 5
"""Number of most likely classes among which the top-5 error looks for the true one."""

IMAGES, WRONG, WRONG_TOP = range(3)

PANELS = {"error": "Top-1 error", "top5_error": "Top-5 error", "loss": "Loss"}
"""Titles of the report's curves by quantity."""

CLASSIFIER_SETTINGS: dict[str, frozenset[str]] = {
    "model": frozenset({"encoder", "encoder_depth", "encoder_weights", "dropout", "in_channels"}),
    "data": frozenset({"val_share", "crop", "flip", "color", "normalization", "workers"}),
    "loss": frozenset(),
    "optim": frozenset(
        {"optimizer", "lr", "weight_decay", "momentum", "schedule", "warmup_epochs", "clip_norm", "ema"}
    ),
    "train": frozenset(TrainConfig.model_fields) - {"reset_head"},
}
"""Settings that apply to a classifier, by section; the others apply to segmentation only."""


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(Task):
    """The `Task` of pretraining; `prepare_classification` builds it.

    Its counts are (3,): images, images whose class is not the most likely one, images whose class is not among `TOP`.
    """

    data: ImageFolders
    model: Classifier

    metrics = ("train_loss", "train_error", "train_top5_error", "val_loss", "val_error", "val_top5_error")
    headline: ClassVar = {
        "loss": ("train_loss", "val_loss"),
        "top-1 error": ("train_error", "val_error"),
        "top-5 error": ("train_top5_error", "val_top5_error"),
    }

    def description(self) -> dict[str, Any]:
        return {
            "source": self.data.source,
            "layout": "folders of images by class",
            "notes": list(self.data.notes),
            "images": {name: len(images) for name, images in self.data.splits.items()},
            "names": list(self.data.classes),
        }

    def names(self, indices: Sequence[int]) -> list[str]:
        return [self.data.splits["train"][index].id for index in indices]

    def empty_counts(self) -> Tensor:
        """(3,) zeros."""
        return torch.zeros(3, dtype=torch.int64, device=self.accelerator.device)

    def gradients(
        self, module: nn.Module, batches: Sequence[Batch], number: int, *, ema: Ema = None, loss_scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Cross entropy over all images of the step; see `Task.gradients`."""
        labels = [self.accelerator.labels(batch.labels) for batch in batches]
        total = sum_over_ranks(torch.tensor(sum(map(len, labels)), device=self.accelerator.device))
        counts = self.empty_counts()

        def share_of(index: int, output: Tensor) -> Tensor:
            logits = output.to(self.accelerator.dtype)
            counts.add_(count_errors(logits.detach(), labels[index]))
            return F.cross_entropy(logits, labels[index], reduction="sum") / total

        loss = self.accelerator.forward_backward(module, batches, number, loss=share_of, loss_scale=loss_scale)
        return loss, counts

    def training_columns(self, counts: Tensor) -> Columns:
        return {"train_error": _share(counts, WRONG), "train_top5_error": _share(counts, WRONG_TOP)}

    def validate(self, model: nn.Module, *, batch_size: int) -> Validation:
        """Loss and errors on the center crop of every validation image; see `Task.validate`."""
        accelerator = self.accelerator
        mine = self.data.splits["val"][rank() :: world_size()]
        counts = self.empty_counts()
        loss = torch.zeros((), dtype=sum_dtype(accelerator.device), device=accelerator.device)
        for images, labels in self._batches(mine, batch_size):
            with torch.inference_mode(), autocast(accelerator.precision, accelerator.device):
                logits = model(images.to(accelerator.device)).to(accelerator.dtype)
            truth = accelerator.labels(labels)
            loss += F.cross_entropy(logits, truth, reduction="sum").to(loss)
            counts += count_errors(logits, truth)
        counts, loss = sum_over_ranks(counts), sum_over_ranks(loss)
        columns = {
            "val_loss": float(loss) / int(counts[IMAGES]),
            "val_error": _share(counts, WRONG),
            "val_top5_error": _share(counts, WRONG_TOP),
        }
        return columns, {"metrics": columns, "split": "val", "data": Path(self.data.source).name}

    def save(self, model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
        """Write the encoder file that `--encoder-weights` takes."""
        assert isinstance(model, Classifier)
        model.save(path, facts=metadata)

    def write_report(self, run: RunFolder, progress: TrainingProgress, notes: Sequence[str]) -> None:
        if rank() > 0:
            return
        history, settings = progress.history, self.config.model_dump(mode="json")
        write_bytes(run.plots / "curves.png", training_curves(history, panels=PANELS))
        page = render_page(
            "pretrain/pretraining_report.html.j2",
            title=f"{self.model.name} on {Path(self.data.source).name}, {run.path.name}",
            best=history[progress.best_epoch],
            curves=PageFigure(
                svg_uri(training_curves(history, panels=PANELS, format="svg")),
                "Error and loss of training and validation by epoch",
            ),
            settings={name: settings[name] for name in ("model", "data", "optim", "train")},
            facts={
                "source": self.data.source,
                "classes": len(self.data.classes),
                **{f"{name} images": len(images) for name, images in self.data.splits.items()},
                **progress.summary(),
            },
            notes=(*self.data.notes, *notes),
        )
        write_text(run.report, page)
        channels = self.model.in_channels
        more = "" if channels == 3 else f" model.in_channels={channels}"
        logger.info(f"for segmentation: `encoder={self.model.name}` `encoder_weights={str(run.best)!r}`{more}")

    def _batches(self, records: Sequence[Record], size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(B, C, H, W) crops and (B,) labels."""

        def read(record: Record) -> np.ndarray[Any, Any]:
            return center_crop(read_image(record.image, channels=self.config.model.in_channels), self.config.data.crop)

        crops = map_in_threads(read, records)
        batches = [records[start : start + size] for start in range(0, len(records), size)]
        for batch in track(batches, total=len(batches), task="scoring"):
            stacked = np.stack(list(itertools.islice(crops, len(batch))))
            labels = torch.tensor([self.data.label(record) for record in batch])
            yield torch.from_numpy(stacked).permute(0, 3, 1, 2), labels


def prepare_classification(config: Config, folder: Path, initial: InitialWeights | None = None) -> ClassificationTask:
    """Check all that can be checked before training, and build data, model and loss.

    Args:
        initial: of a resumed run, whose weights a checkpoint has.

    Raises:
        PyramidSegError: a setting, a device, weights or data that cannot be used.
    """
    # Settings, device and encoder are checked before the images, which takes longer.
    config, optimizer_note = choose_optimizer(classification_config(config))
    accelerator = Accelerator.from_config(config)
    check_encoder(config.model)

    data, normalization = on_first_rank(lambda: _prepare_images(folder, config))

    torch.manual_seed(position_seed("initialisation", config.train.seed))
    model = Classifier(
        data.classes,
        encoder=config.model.encoder,
        encoder_depth=config.model.encoder_depth,
        encoder_weights="none" if initial else config.model.encoder_weights,
        in_channels=config.model.in_channels,
        dropout=config.model.dropout,
    )
    if initial is not None:
        initial.apply_to(model)
    if normalization is not None:
        model.set_normalization(normalization.mean, normalization.std)
    plan = plan_epochs(config, samples=len(data.splits["train"]))
    model.check_training_batch(plan.smallest_batch, *config.data.crop)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model_note = f"{model.name} classifier, {parameters / 1e6:.1f} M parameters, weights {model.encoder_source.name}"
    with out_of_memory_explained("choose a smaller encoder"):
        model = channels_last(model.to(accelerator.device, accelerator.dtype))
    normalization_note = f"images are normalised by {normalization}" if normalization else ""
    return ClassificationTask(
        data=data,
        config=config,
        accelerator=accelerator,
        model=model,
        train_module=model,
        samples=ClassificationSamples(data, config),
        plan=plan,
        fingerprint=data.fingerprint(),
        initial_weights=InitialWeights.of(model),
        notes=tuple(note for note in (model_note, normalization_note, optimizer_note) if note),
    )


def classification_config(config: Config) -> Config:
    """The settings with the defaults of a classifier, where they differ from those of segmentation.

    Raises:
        ConfigError: a given setting applies to segmentation only.
    """
    given = given_settings(config)
    defaults = {"model.encoder_weights": "none", "model.dropout": 0.0, "train.watch": "val_error"}
    usual = Config()
    for name, value in given.items():
        section, _, key = name.partition(".")
        if key not in CLASSIFIER_SETTINGS[section] and value != getattr(getattr(usual, section), key):
            raise ConfigError(f"{name}: does not apply to `pretrain`, which trains a classifier; remove it")
    config = load_config(None, {**defaults, **given})
    check_watch(config.train.watch, ClassificationTask.metrics)
    return config


def count_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Count images, top-1 errors and top-5 errors; (3,) int64.

    Args:
        logits: (B, K).
        labels: (B,) int64.
    """
    best = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    hits = best == labels[:, None]
    wrong, wrong_top = (~hits[:, 0]).sum(), (~hits.any(dim=1)).sum()
    return torch.stack([wrong.new_tensor(len(labels)), wrong, wrong_top])


def _prepare_images(folder: Path, config: Config) -> tuple[ImageFolders, Normalization | None]:
    """Open and check the folders, and measure the normalisation of the training images if it is needed."""
    channels = config.model.in_channels
    data = open_image_folders(folder, val_share=config.data.val_share)
    logger.info(f"{data.source}: folders of images by class, {len(data.classes)} classes")
    for note in data.notes:
        logger.info(f"  {note}")
    dtype = check_images(data, channels=channels)
    for name, images in data.splits.items():
        logger.info(f"  {name}: {len(images)} images")
    if not uses_dataset_statistics(config.data.normalization, dtypes=(dtype,), channels=channels, pretrained=False):
        return data, None
    return data, measure_normalization(data.splits["train"], channels=channels)


def _share(counts: Tensor, which: int) -> float:
    images = int(counts[IMAGES])
    return int(counts[which]) / images if images else math.nan
