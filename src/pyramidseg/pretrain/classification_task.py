"""ClassificationTask as a task: an encoder with its fully connected layer, pretrained on folders of images by class.

Legend: B batch, K classes.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyramidseg.base.config import Config, TrainConfig
from pyramidseg.base.device import (
    autocast,
    channels_last,
    on_first_rank,
    out_of_memory_explained,
    position_seed,
    rank,
    sum_dtype,
    sum_over_ranks,
    world_size,
)
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.log import track
from pyramidseg.base.overrides import given_settings
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.data.loading import Batch
from pyramidseg.data.normalization import Normalization, measure_normalization, uses_dataset_statistics
from pyramidseg.data.records import Record
from pyramidseg.images.decode import read_header, read_image
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.encoder import check_encoder
from pyramidseg.pretrain.classification_loading import ClassifiedSamples, center_crop
from pyramidseg.pretrain.image_folders import ImageFolders, LabelledImage, check_images, open_image_folders
from pyramidseg.pretrain.pretraining_report import write_pretraining_report
from pyramidseg.training.checkpoint import InitialWeights, TrainingProgress
from pyramidseg.training.history import check_watch
from pyramidseg.training.optim import choose_optimizer
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.setup import Setup, assemble, make_plan, make_step
from pyramidseg.training.step import Step
from pyramidseg.training.task import Columns, Validation

logger = logging.getLogger(__name__)

TOP = 5
"""A class among so many most likely ones counts in the top-5 error."""

IMAGES, WRONG, WRONG_TOP = range(3)

MEANINGFUL: dict[str, frozenset[str]] = {
    "model": frozenset({"encoder", "encoder_depth", "encoder_weights", "dropout", "in_channels"}),
    "data": frozenset({"val_share", "crop", "flip", "color", "normalization", "workers"}),
    "loss": frozenset(),
    "optim": frozenset(
        {"optimizer", "lr", "weight_decay", "momentum", "schedule", "warmup_epochs", "clip_norm", "ema"}
    ),
    "train": frozenset(TrainConfig.model_fields) - {"reset_head"},
}
"""What a classifier goes by, by section; the other settings are segmentation's."""


@dataclass(frozen=True)
class ClassificationTask:
    """The task of a pretraining run; see `Task`. Its tally counts images, wrong ones, and wrong among `TOP`."""

    config: Config
    data: ImageFolders
    fingerprint: str
    step: Step

    watchable = ("train_loss", "train_error", "train_top5_error", "val_loss", "val_error", "val_top5_error")
    headline = {  # noqa: RUF012 - a constant
        "loss": ("train_loss", "val_loss"),
        "top-1 error": ("train_error", "val_error"),
        "top-5 error": ("train_top5_error", "val_top5_error"),
    }

    def description(self) -> dict[str, Any]:
        """See `Task.description`."""
        return {
            "source": self.data.source,
            "layout": "folders of images by class",
            "notes": list(self.data.notes),
            "images": {name: len(images) for name, images in self.data.splits.items()},
            "names": list(self.data.classes),
        }

    def identity(self) -> str:
        """See `Task.identity`."""
        return self.fingerprint

    def names(self, indices: Sequence[int]) -> list[str]:
        """See `Task.names`."""
        return [self.data.splits["train"][index].id for index in indices]

    def empty_tally(self) -> Tensor:
        """(3,) zeros."""
        return torch.zeros(3, dtype=torch.int64, device=self.step.device)

    def gradients(self, model: nn.Module, batches: Sequence[Batch], number: int) -> tuple[Tensor, Tensor]:
        """Cross entropy over all images of the step; see `Task.gradients`."""
        labels = [self.step.to_device(batch.labels) for batch in batches]
        total = sum_over_ranks(torch.tensor(sum(map(len, labels)), device=self.step.device))
        tally = self.empty_tally()

        def share_of(index: int, output: Tensor) -> Tensor:
            logits = self.step.widened(output)
            tally.add_(counted(logits.detach(), labels[index]))
            return F.cross_entropy(logits, labels[index], reduction="sum") / total

        return self.step.backward(model, batches, number, loss=share_of), tally

    def training_columns(self, tally: Tensor) -> Columns:
        """See `Task.training_columns`."""
        return {"train_error": _share(tally, WRONG), "train_top5_error": _share(tally, WRONG_TOP)}

    def validate(self, model: nn.Module) -> Validation:
        """Error and loss on the middle of every validation image; see `Task.validate`."""
        mine = self.data.splits["val"][rank() :: world_size()]
        tally = self.empty_tally()
        loss = torch.zeros((), dtype=sum_dtype(self.step.device), device=self.step.device)
        for images, labels in self._batches(mine):
            with torch.inference_mode(), autocast(self.step.precision, self.step.device):
                logits = self.step.widened(model(images.to(self.step.device)))
            truth = self.step.to_device(labels)
            loss += F.cross_entropy(logits, truth, reduction="sum").to(loss)
            tally += counted(logits, truth)
        tally, loss = sum_over_ranks(tally), sum_over_ranks(loss)
        columns = {
            "val_loss": float(loss) / int(tally[IMAGES]),
            "val_error": _share(tally, WRONG),
            "val_top5_error": _share(tally, WRONG_TOP),
        }
        return Validation(columns, {"metrics": columns, "split": "val", "data": Path(self.data.source).name})

    def save(self, model: nn.Module, path: Path, facts: Mapping[str, Any]) -> None:
        """What `--encoder-weights` takes."""
        assert isinstance(model, Classifier)
        model.save(path, facts=facts)

    def write_results(self, setup: Setup, run: RunFolder, position: TrainingProgress) -> None:
        """Curves and page; see `Task.write_results`."""
        if rank() > 0:
            return
        assert isinstance(setup.model, Classifier)
        write_pretraining_report(
            run,
            title=f"{setup.model.name} on {Path(self.data.source).name}, {run.path.name}",
            history=position.history,
            best=position.history[position.best_epoch],
            settings={name: setup.config.model_dump(mode="json")[name] for name in ("model", "data", "optim", "train")},
            facts={
                "source": self.data.source,
                "classes": len(self.data.classes),
                **{f"{name} images": len(images) for name, images in self.data.splits.items()},
                **setup.facts(position),
            },
            notes=(*self.data.notes, *setup.notes),
        )
        channels = setup.model.in_channels
        more = "" if channels == 3 else f" model.in_channels={channels}"
        logger.info(f"for segmentation: --encoder {setup.model.name} --encoder-weights {run.best}{more}")

    def _batches(self, images: Sequence[LabelledImage]) -> Iterator[tuple[Tensor, Tensor]]:
        """(B, C, H, W) crops and (B,) labels."""

        def read(entry: LabelledImage) -> np.ndarray[Any, Any]:
            return center_crop(read_image(entry.image, channels=self.config.model.in_channels), self.config.data.crop)

        crops = track(map_in_threads(read, images), total=len(images), task="scoring")
        size = self.config.train.val_batch_size
        waiting: list[tuple[np.ndarray[Any, Any], int]] = []
        for entry, crop in zip(images, crops, strict=True):
            waiting.append((crop, entry.label))
            if len(waiting) == size:
                yield _stacked(waiting)
                waiting = []
        if waiting:
            yield _stacked(waiting)


def plan_pretraining(config: Config, folder: Path, origin: InitialWeights | None = None) -> Setup:
    """Check everything that can be checked before training, and build what it needs.

    Args:
        origin: of a run that goes on, whose weights a checkpoint has.

    Raises:
        PyramidSegError: the first thing that cannot be used.
    """
    config, optimizer = choose_optimizer(classification_config(config))
    step = make_step(config)  # a device or a network that cannot be had is refused before any image is read
    check_encoder(config.model)
    data, normalization = on_first_rank(lambda: _checked(folder, config))
    torch.manual_seed(position_seed("initialisation", config.train.seed))
    model = Classifier(
        data.classes,
        encoder=config.model.encoder,
        encoder_depth=config.model.encoder_depth,
        encoder_weights="none" if origin else config.model.encoder_weights,
        in_channels=config.model.in_channels,
        dropout=config.model.dropout,
    )
    if origin is not None:
        origin.give(model)
    if normalization is not None:
        model.set_normalization(normalization.mean, normalization.std)
    plan = make_plan(config, samples=len(data.splits["train"]))
    model.check_training_batch(plan.smallest_batch, *config.data.crop)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    note = f"{model.name} classifier, {parameters / 1e6:.1f} M parameters, weights {model.encoder_source.name}"
    with out_of_memory_explained("choose a smaller encoder, or train.device=cpu"):
        model = channels_last(model.to(step.device, step.dtype))
    setup = assemble(
        config,
        ClassificationTask(config, data, data.fingerprint(), step),
        step,
        plan,
        model=model,
        seen_by_loss=model,
        samples=ClassifiedSamples(
            data.splits["train"],
            channels=config.model.in_channels,
            crop=config.data.crop,
            flip=config.data.flip,
            color=config.data.color,
            seed=config.train.seed,
        ),
        origin=InitialWeights.of(model),
        notes=(note, *([f"images are normalised by {normalization}"] if normalization else [])),
    )
    for text in (*setup.notes, optimizer):
        logger.info(text)
    return setup


def classification_config(config: Config) -> Config:
    """The settings with what is different by default for a classifier.

    Raises:
        ConfigError: a setting was given that only segmentation has.
    """
    given = given_settings(config)
    defaults = {"model.encoder_weights": "none", "model.dropout": 0.0, "train.watch": "val_error"}
    for name in given:
        section, _, key = name.partition(".")
        if key not in MEANINGFUL[section] and given[name] != _default(name):
            raise ConfigError(f"{name}: has no meaning for a classifier, which `pretrain` trains; leave it out")
    tree = config.model_dump()
    for name, value in defaults.items():
        if name not in given:
            section, _, key = name.partition(".")
            tree[section][key] = value
    config = Config.model_validate(tree)
    check_watch(config.train.watch, ClassificationTask.watchable)
    return config


def counted(logits: Tensor, labels: Tensor) -> Tensor:
    """(3,) int64: images, those whose class is not the most likely one, those whose class is not among `TOP`.

    Args:
        logits: (B, K).
        labels: (B,) int64.
    """
    best = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    hits = best == labels[:, None]
    wrong, wrong_top = (~hits[:, 0]).sum(), (~hits.any(dim=1)).sum()
    return torch.stack([wrong.new_tensor(len(labels)), wrong, wrong_top])


def _checked(folder: Path, config: Config) -> tuple[ImageFolders, Normalization | None]:
    """The images, and mean and deviation of those that are trained on where the network needs them."""
    channels = config.model.in_channels
    data = open_image_folders(folder, val_share=config.data.val_share)
    logger.info(f"{data.source}: folders of images by class, {len(data.classes)} classes")
    for note in data.notes:
        logger.info(f"  {note}")
    check_images(data, channels=channels)
    for name, images in data.splits.items():
        logger.info(f"  {name}: {len(images)} images")
    dtype = _common_dtype(data)
    if not uses_dataset_statistics(config.data.normalization, dtypes=(dtype,), channels=channels, pretrained=False):
        return data, None
    records = [Record(entry.id, entry.image) for entry in data.splits["train"]]
    return data, measure_normalization(records, channels=channels)


def _common_dtype(data: ImageFolders) -> str:
    """The type of all images, whose range their values are scaled by.

    Raises:
        DataError: there are several.
    """
    entries = [entry for images in data.splits.values() for entry in images]
    shown: dict[str, str] = {}
    for entry, header in zip(entries, map_in_threads(lambda entry: read_header(entry.image), entries), strict=True):
        shown.setdefault(header.dtype, entry.id)
    if len(shown) > 1:
        kinds = " and ".join(f"{dtype} ({example})" for dtype, example in sorted(shown.items()))
        raise DataError(f"{data.source}: images of {kinds} cannot be mixed; convert one kind")
    (dtype,) = shown
    return dtype


def _stacked(waiting: Sequence[tuple[np.ndarray[Any, Any], int]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*waiting, strict=True)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(labels)


def _share(tally: Tensor, which: int) -> float:
    images = int(tally[IMAGES])
    return int(tally[which]) / images if images else math.nan


def _default(name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(Config(), section), key)
