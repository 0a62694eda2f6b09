"""Segmentation as a `Task`: prepared data, model, loss, validation and report.

Legend: B batch, C channels, H W pixels, K classes.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pyramidseg.backends import TorchBackend
from pyramidseg.base.config import Config, LossConfig
from pyramidseg.base.device import autocast, channels_last, out_of_memory_explained
from pyramidseg.base.distributed import on_first_rank, rank
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.loading import Batch
from pyramidseg.data.pairs import set_name
from pyramidseg.data.records import DatasetSource
from pyramidseg.evaluation.evaluation_report import format_scores, write_report
from pyramidseg.evaluation.example_images import scene_maps
from pyramidseg.evaluation.metrics import compute_metrics
from pyramidseg.evaluation.score_plots import save_plots
from pyramidseg.evaluation.scoring import draw_examples, score
from pyramidseg.images.value_range import BYTES, ValueRange, impossible, suspicious
from pyramidseg.inspection.prepare_data import PreparedData, prepare_data, training_samples
from pyramidseg.model.encoder import check_encoder
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.components import loading_workers, local_processes, plan_epochs
from pyramidseg.training.initial_weights import InitialWeights, adopt_bundle_settings, build_model
from pyramidseg.training.losses import class_weights
from pyramidseg.training.losses import validation_loss as loss_by_image
from pyramidseg.training.optim import choose_optimizer, set_training_mode
from pyramidseg.training.progress import TrainingProgress, check_watch
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.segmentation_gradients import (
    TrainingModel,
    accepted_shares,
    label_by_teacher,
    segmentation_gradients,
)
from pyramidseg.training.task import Columns, Ema, Task, Validation

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SegmentationTask(Task):
    """The `Task` of training on a dataset; `prepare_segmentation` builds it.

    Attributes:
        class_weights: (K,) on the device.
    """

    data: PreparedData
    model: Segmenter
    class_weights: Tensor

    metrics = (
        *("train_loss", "train_error", "train_miou"),
        *("val_loss", "val_error", "val_miou", "val_class_accuracy", "val_dice"),
    )
    headline: ClassVar = {
        "loss": ("train_loss", "val_loss"),
        "mIoU": ("train_miou", "val_miou"),
        "error": ("val_error",),
    }

    def description(self) -> dict[str, Any]:
        dataset = self.data.dataset
        return {
            **(dataset.description or dataset.classes.to_dict()),
            "recorded": {
                "source": dataset.source,
                "layout": dataset.layout,
                "notes": list(dataset.notes),
                "images": {name: len(records) for name, records in dataset.splits.items()},
                **({"unlabeled_left_out": list(self.data.left_out)} if self.data.left_out else {}),
            },
        }

    def names(self, indices: Sequence[int]) -> list[str]:
        train, unlabelled = self.data.dataset.split("train"), self.data.unlabeled
        return [(train[index % len(train)] if index >= 0 else unlabelled[-1 - index]).id for index in indices]

    def empty_counts(self) -> Tensor:
        """A confusion matrix (K, K), and with unlabelled images two rows for `PseudoLabels.counts`."""
        count, more = len(self.data.dataset.classes), 2 if self.plan.unlabeled else 0
        return torch.zeros(count + more, count, dtype=torch.int64, device=self.accelerator.device)

    def gradients(
        self, module: nn.Module, batches: Sequence[Batch], number: int, *, ema: Ema = None, loss_scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        pseudo, loss = None, self.config.loss
        if self.plan.unlabeled and ema is not None:
            unlabelled = [batch for batch in batches if not batch.is_labelled]
            batches = [batch for batch in batches if batch.is_labelled]
            pseudo = label_by_teacher(self.accelerator, ema, unlabelled, number, loss=loss)
        return segmentation_gradients(
            self.accelerator,
            module,
            batches,
            number,
            loss=loss,
            class_weights=self.class_weights,
            loss_scale=loss_scale,
            pseudo=pseudo,
        )

    def training_columns(self, counts: Tensor) -> Columns:
        dataset = self.data.dataset
        names = dataset.classes.names
        confusion, unlabelled = counts.cpu()[: len(names)], counts.cpu()[len(names) :]
        metrics = compute_metrics(confusion, dataset.classes, images=len(dataset.split("train")))
        columns = {"train_error": metrics.error, "train_miou": metrics.miou}
        return columns | accepted_shares(unlabelled, names) if len(unlabelled) else columns

    def validate(self, model: nn.Module, *, batch_size: int) -> Validation:
        dataset, accelerator = self.data.dataset, self.accelerator

        def logits_of(images: Tensor) -> Tensor:
            with torch.inference_mode(), autocast(accelerator.precision, accelerator.device):
                logits: Tensor = model(images.to(accelerator.device))
            return logits.to(accelerator.dtype)

        scores = score(
            logits_of,
            dataset,
            "val",
            channels=self.config.model.channels,
            batch_size=batch_size,
            device=accelerator.device,
            loss=lambda logits, labels: loss_by_image(logits, labels, self.class_weights, self.config.loss),
        )
        metrics = scores.metrics
        columns = {
            "val_loss": scores.loss,
            "val_error": metrics.error,
            "val_miou": metrics.miou,
            "val_class_accuracy": metrics.mean_class_accuracy,
            "val_dice": metrics.mean_dice,
            **{f"val_miou_{name}": of_set["miou"] for name, of_set in scores.by_set.items()},
        }
        leak = self.data.summary.leak.partition(":")[0]
        return columns, {"metrics": metrics.to_dict(), "split": f"val ({leak})" if leak else "val"}

    def save(self, model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
        assert isinstance(model, Segmenter)
        data = {
            "source": Path(self.data.dataset.source).name,
            "layout": self.data.dataset.layout,
            "fingerprint": self.fingerprint,
            **({"sets": list(self.data.dataset.sets)} if self.data.dataset.sets else {}),
            **({"metres_per_pixel": self.data.resolution_m} if self.data.resolution_m else {}),
        }
        model.save(path, facts={**metadata, "data": data, "crop": list(self.config.data.crop)})

    def write_report(self, run: RunFolder, progress: TrainingProgress, notes: Sequence[str]) -> None:
        """Score the best bundle as `pyramidseg evaluate` does, and write `plots/` and `report.html`."""
        dataset, device, channels = self.data.dataset, self.accelerator.device, self.config.model.channels
        backend = TorchBackend(run.best, device=device, precision="fp32")
        batch_size = progress.val_batch_size(self.config)
        scores = score(backend, dataset, "val", channels=channels, batch_size=batch_size, device=device)
        if rank() > 0:
            return
        examples = draw_examples(backend, dataset, "val", scores, channels=channels, device=device)
        save_plots(run.plots, scores, history=progress.history)
        write_report(
            run.report,
            title=f"{backend.model.encoder.name} FPN, {run.path.name}",
            scores=scores,
            classes=dataset.classes,
            examples=examples,
            history=progress.history,
            maps=scene_maps(dataset),
            settings=self.config.model_dump(mode="json"),
            facts={
                "source": dataset.source,
                "layout": dataset.layout,
                **{f"{name} images": split.images for name, split in self.data.summary.splits.items()},
                "data fingerprint": self.fingerprint,
                **progress.summary(),
            },
            notes=(*dataset.notes, *notes),
        )
        logger.info(format_scores(scores))


def prepare_segmentation(
    config: Config,
    source: DatasetSource | PreparedData,
    initial: InitialWeights | None = None,
    *,
    dry_run: bool = False,
) -> SegmentationTask:
    """Check all that can be checked before training, and build data, model and loss.

    Args:
        source: data that has been prepared is not read again.
        initial: of a resumed run, whose weights a checkpoint has and whose settings are resolved already.
        dry_run: do not download pretrained weights.

    Raises:
        PyramidSegError: a setting, a device, weights or data that cannot be used.
    """
    # Settings, device and encoder are checked before the masks, which takes longer.
    check_watch(config.train.watch, SegmentationTask.metrics)
    for key in ("confidence", "unlabeled_weight"):
        if not config.data.unlabeled and (value := getattr(config.loss, key)) != getattr(LossConfig(), key):
            raise ConfigError(
                f"loss.{key}={value} needs unlabelled images: give `unlabeled=FOLDER`, or remove loss.{key}"
            )
    config, bundle_note = (config, "") if initial else adopt_bundle_settings(config)
    config, optimizer_note = choose_optimizer(config)
    accelerator = Accelerator.from_config(config)
    check_encoder(config.model)

    if isinstance(source, PreparedData):
        data = replace(source, config=config)
    else:
        data = on_first_rank(lambda: prepare_data(source, config))
    config, watch_note = _watch_what_can_tell(data)

    model, model_note = build_model(config, data.dataset.classes, initial, dry_run=dry_run)
    if data.normalization is not None:
        model.set_normalization(data.normalization.mean, data.normalization.std)
    elif initial is None and data.value_range is not None:
        _check_units(data.value_range, model.value_range, config, source=data.dataset.source)
    model.value_range = data.value_range
    with out_of_memory_explained("choose a smaller encoder"):
        model = channels_last(model.to(accelerator.device, accelerator.dtype))

    train = data.summary.splits["train"]
    sets = [set_name(record) for record in data.dataset.split("train")] * config.data.crops_per_image
    plan = plan_epochs(config, samples=len(sets), sets=sets, shares=data.dataset.sets, unlabeled=len(data.unlabeled))
    for epoch in (config.train.epochs - 1, 0):  # BatchNorm needs larger batches once the encoder is unfrozen
        set_training_mode(model, config.optim, epoch=epoch)
        model.check_training_batch(plan.smallest_batch, *config.data.crop)
    weights = class_weights(config.loss.class_weights, train.pixels, train.presence_pixels)
    weights = weights.to(accelerator.device, accelerator.dtype)
    workers = loading_workers(config, accelerator.device)
    samples, cache_note = training_samples(data, workers=workers, processes=local_processes())
    mean, std = (", ".join(f"{value:.4g}" for value in values.tolist()) for values in (model.mean, model.std))
    normalization = data.normalization or f"the encoder's mean {mean} and standard deviation {std}"
    notes = (
        f"{data.summary.leak} (data.allow_leak)" if data.summary.leak else "",
        watch_note,
        bundle_note,
        model_note,
        f"images are normalised by {normalization}",
        ""
        if config.loss.class_weights == "none"
        else f"class weights {', '.join(f'{value:.3g}' for value in weights.tolist())}",
        _frozen_note(config),
        f"crops of an epoch, by set: {', '.join(map(str, plan.crops_by_set))}" if plan.shares else "",
        cache_note,
        optimizer_note,
    )
    return SegmentationTask(
        data=data,
        config=config,
        accelerator=accelerator,
        model=model,
        train_module=TrainingModel(model),
        samples=samples,
        plan=plan,
        fingerprint=data.summary.fingerprint,
        class_weights=weights,
        initial_weights=InitialWeights.of(model),
        notes=tuple(note for note in notes if note),
    )


def _check_units(found: ValueRange, trained: ValueRange | None, config: Config, *, source: str) -> None:
    """Compare the images with the units of the normalisation that training keeps: the bundle's, or the encoder's.

    Raises:
        DataError: they cannot be those that the bundle was trained on.
    """
    advice = "; or fit the normalization to these images: data.normalization=dataset"
    pretrained = config.model.weights != "random"
    expected = trained if pretrained else BYTES
    if expected is None:
        return
    if (reason := impossible(found, expected)) and pretrained:
        raise DataError(f"{source}: {reason}{advice}")
    if reason := reason or suspicious(found, expected):
        logger.warning(f"{source}: {reason}{advice}")


def _watch_what_can_tell(data: PreparedData) -> tuple[Config, str]:
    """The settings, with `val_loss` watched if val shows one class and `train.watch` was not set; and a note on it."""
    config, val = data.config, data.summary.splits["val"]
    if "watch" in config.train.model_fields_set or sum(pixels > 0 for pixels in val.pixels) >= 2:
        return config, ""
    train = config.train.model_copy(update={"watch": "val_loss"})
    note = (
        "split val shows only one class, so its mIoU cannot tell which epoch is the best: val_loss decides "
        "(train.watch=val_loss)"
    )
    return config.model_copy(update={"train": train}), note


def _frozen_note(config: Config) -> str:
    """A note if the run ends before its frozen part is unfrozen."""
    unfreeze_epoch, epochs = config.optim.unfreeze_epoch, config.train.epochs
    if unfreeze_epoch < epochs:
        return ""
    return f"optim.unfreeze_epoch={unfreeze_epoch} is not reached in {epochs} epochs: the frozen part stays frozen"
