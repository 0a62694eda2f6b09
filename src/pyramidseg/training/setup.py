"""From settings and data to everything that the training loop turns over."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pyramidseg.config import Config, ModelConfig
from pyramidseg.data.inspection import DatasetSummary
from pyramidseg.data.loading import EpochPlan, TrainingLoader, TrainingSamples, default_workers
from pyramidseg.data.records import Dataset
from pyramidseg.data.transforms import Augmentation
from pyramidseg.errors import ConfigError
from pyramidseg.model.bundle import load_weights, read_settings
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.runtime import choose_device, position_seed, rank, resolve_precision, world_size
from pyramidseg.training.ema import WeightAverage
from pyramidseg.training.losses import class_weights
from pyramidseg.training.optim import make_optimizer, set_training_mode
from pyramidseg.training.run_folder import MAY_CHANGE
from pyramidseg.training.step import Step, TrainingModel


@dataclass(frozen=True)
class Setup:
    """Everything that training turns over.

    Attributes:
        wrapped: the model as the loss sees it, inside DistributedDataParallel where there are several processes.
        identity: fingerprint of the settings that matter and of the data.
        notes: what was chosen, in words.
    """

    config: Config
    dataset: Dataset
    summary: DatasetSummary
    device: torch.device
    precision: Literal["fp32", "bf16", "fp64"]
    model: Segmenter
    wrapped: nn.Module
    average: WeightAverage | None
    optimizer: torch.optim.Optimizer
    loader: TrainingLoader
    step: Step
    identity: str
    notes: tuple[str, ...]

    def no_confusion(self) -> Tensor:
        """(K, K) int64 zeros on the device."""
        count = len(self.dataset.classes)
        return torch.zeros(count, count, dtype=torch.int64, device=self.device)


def prepare(config: Config, dataset: Dataset, summary: DatasetSummary) -> Setup:
    """Build model, optimiser and loader, and refuse what training would fail on later.

    Raises:
        PyramidSegError: a setting, a device, weights or a batch that cannot be used.
    """
    device = choose_device(config.train.device)
    precision = resolve_precision(config.train.precision, device)
    if config.train.deterministic:
        torch.use_deterministic_algorithms(True)
    model, model_note = build_model(config, dataset)
    model = model.double() if precision == "fp64" else model
    model = model.to(device).to(memory_format=torch.channels_last)
    set_training_mode(model, freeze_encoder=config.optim.freeze_encoder)
    plan = EpochPlan(
        samples=len(dataset.split("train")),
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        world_size=world_size(),
        seed=config.train.seed,
    )
    smallest = plan.samples // (plan.steps * plan.world_size * plan.accumulate)
    model.check_training_batch(smallest, *config.data.crop)
    optimizer = make_optimizer(model, config.optim)
    average = WeightAverage(model, config.optim.ema) if config.optim.ema else None
    wrapped, norm_note = _distribute(model, device)
    weights = _class_weights(config, summary).to(device, torch.float64 if precision == "fp64" else torch.float32)
    workers = config.data.workers
    if workers is None:
        workers = default_workers(device, os.cpu_count() or 1, world_size())
    samples = TrainingSamples(
        dataset.split("train"),
        dataset.masks,
        channels=config.model.in_channels,
        augmentation=Augmentation(config.data.crop, config.data.scale, config.data.flip, config.data.color),
        seed=config.train.seed,
    )
    processes = "1 process" if world_size() == 1 else f"{world_size()} processes"
    notes = (
        model_note,
        f"{device}, {precision}, {processes}{norm_note}, {workers} loading workers",
        f"{plan.samples} training images, {plan.steps} steps an epoch of up to "
        f"{config.train.batch_size} x {config.train.accumulate} x {world_size()} crops of "
        f"{config.data.crop[0]}x{config.data.crop[1]}, {config.train.epochs} epochs",
        *(
            [f"class weights {', '.join(f'{value:.3g}' for value in weights.tolist())}"]
            if config.loss.class_weights != "none"
            else []
        ),
    )
    return Setup(
        config=config,
        dataset=dataset,
        summary=summary,
        device=device,
        precision=precision,
        model=model,
        wrapped=wrapped,
        average=average,
        optimizer=optimizer,
        loader=TrainingLoader(samples, plan, rank=rank(), workers=workers, pin=device.type == "cuda"),
        step=Step(device, precision, config.loss, weights, config.train.seed),
        identity=_identity(config, summary),
        notes=notes,
    )


def build_model(config: Config, dataset: Dataset) -> tuple[Segmenter, str]:
    """The network with its starting weights, and what they are in words."""
    torch.manual_seed(position_seed("initialisation", config.train.seed))
    settings = config.model.model_dump()
    start = settings.pop("weights")
    if start == "random":
        model = Segmenter(classes=dataset.classes, **settings)
        source = model.encoder_source
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return model, f"{model.encoder.name} FPN, {parameters / 1e6:.1f} M parameters, encoder weights {source.name}"
    model = Segmenter(classes=dataset.classes, **{**settings, "encoder_weights": "none"})
    report = load_weights(model, Path(start), reset_head=config.train.reset_head)
    return model, f"{model.encoder.name} FPN, weights {start}: {report}"


def adopt_bundle_settings(config: Config) -> tuple[Config, str]:
    """With `weights` from a bundle, take the network's settings from it, unless they were given.

    A setting that was given and contradicts the bundle is left, and refused when the tensors do not fit.

    Returns:
        The settings, and what was taken over in words (nothing where there was nothing to take).
    """
    if config.model.weights == "random":
        return config, ""
    theirs = ModelConfig.model_validate({**read_settings(Path(config.model.weights)), "weights": config.model.weights})
    own = config.model
    free = set(ModelConfig.model_fields) - own.model_fields_set - {"weights", "dropout", "encoder_weights"}
    taken = {name: getattr(theirs, name) for name in sorted(free) if getattr(theirs, name) != getattr(own, name)}
    if own.encoder != theirs.encoder and "encoder" in own.model_fields_set:
        raise ConfigError(
            f"model.encoder={own.encoder}: {own.weights} holds a {theirs.encoder}; leave the encoder out, or choose "
            "other weights"
        )
    note = f"from the bundle: {', '.join(f'{name}={value}' for name, value in taken.items())}" if taken else ""
    return config.model_copy(update={"model": own.model_copy(update=taken)}), note


def _distribute(model: Segmenter, device: torch.device) -> tuple[nn.Module, str]:
    """Wrap for several processes; batch norm is synchronised where torch can (GPU), and per process on the CPU."""
    trained = TrainingModel(model)
    if world_size() == 1:
        return trained, ""
    normed = any(isinstance(module, nn.BatchNorm2d) and module.training for module in model.modules())
    if device.type == "cuda":
        trained = nn.SyncBatchNorm.convert_sync_batchnorm(trained)  # type: ignore[no-untyped-call]
        note = ", batch norm synchronised"
    else:
        note = ", batch norm per process: torch synchronises it on GPUs only" if normed else ""
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(trained, device_ids=ids, gradient_as_bucket_view=True), note


def _class_weights(config: Config, summary: DatasetSummary) -> Tensor:
    train = summary.splits["train"]
    return class_weights(config.loss.class_weights, train.pixels, train.presence_pixels)


def _identity(config: Config, summary: DatasetSummary) -> str:
    tree = config.model_dump(mode="json")
    for name in MAY_CHANGE:
        section, _, key = name.partition(".")
        del tree[section][key]
    text = json.dumps([tree, summary.fingerprint, world_size()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
