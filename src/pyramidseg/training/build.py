"""From settings and a checked dataset to a segmentation run: the network with its starting weights, and its task."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyramidseg.base.config import Config, DataConfig, ModelConfig
from pyramidseg.base.device import channels_last, out_of_memory_explained, position_seed
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.machine import free_bytes
from pyramidseg.data.loading import TrainingSamples
from pyramidseg.data.normalization import Normalization
from pyramidseg.data.pairs import FilePairs, PairSource
from pyramidseg.data.ram_cache import cache_if_fits
from pyramidseg.data.records import Dataset
from pyramidseg.data.transforms import Augmentation, RareClassCrops
from pyramidseg.inspection import DatasetSummary, SplitSummary
from pyramidseg.model.bundle import read_settings
from pyramidseg.model.encoder import resolve_encoder
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.checkpoint import InitialWeights
from pyramidseg.training.freezing import set_training_mode
from pyramidseg.training.losses import class_weights
from pyramidseg.training.segmentation_task import SegmentationTask, TrainingModel
from pyramidseg.training.setup import Setup, assemble, loading_workers, local_processes, make_plan, make_step


def prepare(
    config: Config,
    dataset: Dataset,
    summary: DatasetSummary,
    normalization: Normalization | None = None,
    origin: InitialWeights | None = None,
) -> Setup:
    """Build everything that a segmentation run needs, and refuse what training would fail on later.

    Args:
        normalization: of the training images; without it the weights' own is kept.
        origin: of a run that goes on, whose weights a checkpoint has.

    Raises:
        PyramidSegError: a setting, a device, weights or a batch that cannot be used.
    """
    step = make_step(config)
    model, model_note = build_model(config, dataset, origin)
    if normalization is not None:
        model.set_normalization(normalization.mean, normalization.std)
    with out_of_memory_explained("choose a smaller encoder, or train.device=cpu"):
        model = channels_last(model.to(step.device, step.dtype))
    plan = make_plan(config, samples=len(dataset.split("train")))
    for epoch in (config.train.epochs - 1, 0):  # what is frozen at first asks less of a batch than when it thaws
        set_training_mode(model, config.optim, epoch=epoch)
        model.check_training_batch(plan.smallest_batch, *config.data.crop)
    weights = _class_weights(config, summary).to(step.device, step.dtype)
    describe = ", ".join(f"{value:.3g}" for value in weights.tolist())
    pairs, pairs_note = _pairs(config, dataset, summary, workers=loading_workers(config, step.device))
    thaw_note = _thaw_note(config.optim.unfreeze_epoch, config.train.epochs)
    return assemble(
        config,
        SegmentationTask(config, dataset, summary, step, weights),
        step,
        plan,
        model=model,
        seen_by_loss=TrainingModel(model),
        samples=TrainingSamples(
            pairs, augmentation=_augmentation(config.data, summary.splits["train"]), seed=config.train.seed
        ),
        origin=InitialWeights.of(model),
        notes=(
            model_note,
            f"images are normalised by {normalization or _normalization_of(model)}",
            *([f"class weights {describe}"] if config.loss.class_weights != "none" else []),
            *([thaw_note] if thaw_note else []),
            *([pairs_note] if pairs_note else []),
        ),
    )


def build_model(config: Config, dataset: Dataset, origin: InitialWeights | None = None) -> tuple[Segmenter, str]:
    """The network with its starting weights, and what they are in words.

    Args:
        origin: without it the weights are got; with it they are still to come, from a checkpoint.
    """
    torch.manual_seed(position_seed("initialisation", config.train.seed))
    start = config.model.weights
    encoder_weights = config.model.encoder_weights if start == "random" else "none"
    settings = config.model.model_copy(update={"weights": "random", "encoder_weights": encoder_weights})
    if origin is not None:
        model = Segmenter.without_weights(settings, classes=dataset.classes)
        origin.give(model)
    else:
        model = Segmenter(settings, classes=dataset.classes)
    if start == "random":
        source = model.encoder_source
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return model, f"{model.encoder.name} FPN, {parameters / 1e6:.1f} M parameters, encoder weights {source.name}"
    report = "" if origin else f": {model.load_weights(start, reset_head=config.train.reset_head)}"
    return model, f"{model.encoder.name} FPN, weights {start}{report}"


def adopt_bundle_settings(config: Config) -> tuple[Config, str]:
    """With `weights` from a bundle, take the network's settings from it, unless they were given.

    A setting that was given and contradicts the bundle is left, and refused when the tensors do not fit.

    Returns:
        The settings, and what was taken over in words (nothing where there was nothing to take).

    Raises:
        ConfigError: the encoder that was given is not the bundle's.
    """
    if config.model.weights == "random":
        return config, ""
    theirs = ModelConfig.model_validate({**read_settings(Path(config.model.weights)), "weights": config.model.weights})
    own = config.model
    free = set(ModelConfig.model_fields) - own.model_fields_set - {"weights", "encoder_weights"}
    if "encoder" in own.model_fields_set and own.encoder != theirs.encoder:
        free -= {"encoder_depth"}  # a depth belongs to the name that it was given with
    taken = {name: getattr(theirs, name) for name in sorted(free) if getattr(theirs, name) != getattr(own, name)}
    adopted = own.model_copy(update=taken)
    asked, held = (resolve_encoder(model.encoder, model.encoder_depth) for model in (adopted, theirs))
    if asked != held:
        raise ConfigError(
            f"model.encoder={own.encoder}: is {asked}, and {own.weights} holds a {held}; leave the encoder out, or "
            "choose other weights"
        )
    note = f"from the bundle: {', '.join(f'{name}={value}' for name, value in taken.items())}" if taken else ""
    return config.model_copy(update={"model": adopted}), note


def adopt_bands(config: Config, dataset: Dataset) -> Config:
    """With bands that the data names, take these as the network's channels.

    Raises:
        ConfigError: another number of channels was given.
    """
    if dataset.bands is None:
        return config
    number, given = len(dataset.bands), config.model.in_channels
    if "in_channels" in config.model.model_fields_set and given != number:
        raise ConfigError(
            f"data.bands={list(dataset.bands)} are {number} channels and model.in_channels={given}: leave in_channels "
            "out, or make them agree"
        )
    taken = {"in_channels": number, "input_bands": dataset.bands}
    return config.model_copy(update={"model": config.model.model_copy(update=taken)})


def _pairs(config: Config, dataset: Dataset, summary: DatasetSummary, *, workers: int) -> tuple[PairSource, str]:
    train = summary.splits["train"]
    channels = config.model.channels
    pixel_bytes = config.model.in_channels * max(np.dtype(name).itemsize for name in train.dtypes) + 1
    return cache_if_fits(
        FilePairs(dataset.split("train"), dataset.masks, channels),
        config.data.cache,
        size_bytes=(sum(train.pixels) + train.ignored) * pixel_bytes,
        free_bytes=free_bytes(torch.device("cpu")) // local_processes(),
        workers=workers,
        epochs=config.train.epochs,
    )


def _normalization_of(model: Segmenter) -> str:
    mean, std = (", ".join(f"{value:.4g}" for value in values.flatten().tolist()) for values in (model.mean, model.std))
    return f"the encoder's own mean {mean} and deviation {std}"


def _thaw_note(unfreeze_epoch: int, epochs: int) -> str:
    """What to say where a run ends before what is frozen thaws."""
    if unfreeze_epoch < epochs:
        return ""
    return f"optim.unfreeze_epoch={unfreeze_epoch}: a run of {epochs} epochs ends before, so what is frozen stays so"


def _augmentation(data: DataConfig, train: SplitSummary) -> Augmentation:
    rare = RareClassCrops.by_frequency(data.rare_class_crops, train.pixels) if data.rare_class_crops else None
    return Augmentation(data.crop, data.scale, data.flip, data.color, rare)


def _class_weights(config: Config, summary: DatasetSummary) -> Tensor:
    train = summary.splits["train"]
    return class_weights(config.loss.class_weights, train.pixels, train.presence_pixels)
