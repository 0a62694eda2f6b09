"""Everything that the training loop turns over, whatever the task."""

import hashlib
import json
import os
from dataclasses import dataclass, replace

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pyramidseg.base.config import Config
from pyramidseg.base.device import choose_device, rank, resolve_precision, world_size
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.log import duration
from pyramidseg.base.machine import available_processors
from pyramidseg.data.loading import EpochPlan, SampleDataset, TrainingLoader, default_workers
from pyramidseg.training.checkpoint import Identity, InitialWeights, TrainingProgress
from pyramidseg.training.ema import ModelEma
from pyramidseg.training.freezing import set_training_mode
from pyramidseg.training.optim import make_optimizer
from pyramidseg.training.run_folder import MAY_CHANGE
from pyramidseg.training.step import Step
from pyramidseg.training.task import Task


@dataclass(frozen=True)
class Setup:
    """What a run needs.

    Attributes:
        model: what is trained, averaged and saved.
        wrapped: the model as the loss sees it, inside DistributedDataParallel where there are several processes.
        identity: of the settings that matter, and of the data.
        origin: what the model began with.
        notes: what was chosen, in words.
    """

    config: Config
    task: Task
    device: torch.device
    model: nn.Module
    seen_by_loss: nn.Module
    wrapped: nn.Module
    average: ModelEma | None
    optimizer: torch.optim.Optimizer
    loader: TrainingLoader
    identity: Identity
    origin: InitialWeights
    notes: tuple[str, ...]

    def for_epoch(self, epoch: int) -> "Setup":
        """Modes and gradients as an epoch (from 0) has them."""
        trained_before = _trained(self.model)
        set_training_mode(self.model, self.config.optim, epoch=epoch)
        if world_size() > 1 and _trained(self.model) != trained_before:
            # DistributedDataParallel only knows what was trained when it was made.
            return replace(self, wrapped=_wrapped(self.seen_by_loss, self.device, self.config.train.compile))
        return self

    def facts(self, position: TrainingProgress) -> dict[str, object]:
        """What a report says of the run, by name."""
        seconds = sum(row["seconds"] for row in position.history)
        waited = sum(row["seconds"] * (row["waiting_share"] or 0) for row in position.history)
        return {
            "best epoch": position.best_epoch + 1,
            "training time": duration(seconds),
            "waiting for data": f"{100 * waited / max(seconds, 1e-9):.1f} % of the training time",
            "skipped steps": position.skipped,
        }


def make_step(config: Config) -> Step:
    """Device and precision of a run.

    Raises:
        DeviceError: the device is not on this machine.
        ConfigError: CUDA graphs for another device than a CUDA GPU.
    """
    device = choose_device(config.train.device)
    if config.train.compile == "cuda_graphs" and device.type != "cuda":
        raise ConfigError(f"train.compile=cuda_graphs: needs a CUDA GPU and the device is {device}; choose default")
    if config.train.deterministic:
        torch.use_deterministic_algorithms(True)
    return Step(device, resolve_precision(config.train.precision, device), config.train.seed)


def make_plan(config: Config, *, samples: int) -> EpochPlan:
    """How an epoch's samples are dealt out.

    Raises:
        DataError: there are fewer than one step needs.
    """
    return EpochPlan(
        samples=samples,
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        world_size=world_size(),
        seed=config.train.seed,
    )


def local_processes() -> int:
    """Processes of this run on this machine, which share its processors and its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def loading_workers(config: Config, device: torch.device) -> int:
    """Loading processes of this process: what was asked for, or what suits the machine."""
    if config.data.workers is not None:
        return config.data.workers
    return default_workers(device, available_processors(), local_processes())


def assemble(
    config: Config,
    task: Task,
    step: Step,
    plan: EpochPlan,
    *,
    model: nn.Module,
    seen_by_loss: nn.Module,
    samples: SampleDataset,
    origin: InitialWeights,
    notes: tuple[str, ...],
) -> Setup:
    """Optimiser, average, processes and loading around a model that is on its device.

    Args:
        model: in the step's precision.
        seen_by_loss: the model as the task's `gradients` takes it.
        notes: what the task chose, in words.
    """
    set_training_mode(model, config.optim, epoch=0)
    optimizer = make_optimizer(model, config.optim)
    average = ModelEma(model, config.optim.ema) if config.optim.ema else None
    normed = any(isinstance(module, nn.BatchNorm2d) and module.training for module in model.modules())
    if world_size() > 1 and step.device.type == "cuda":
        # torch's own conversion drops the activations that are part of timm's norms.
        seen_by_loss = convert_sync_batchnorm(seen_by_loss)  # type: ignore[no-untyped-call]
    workers = loading_workers(config, step.device)
    processes = "1 process" if world_size() == 1 else f"{world_size()} processes"
    notes = (
        *notes,
        f"{step.device}, {step.precision}, {processes}{_norm_note(step.device, normed)}, {workers} loading workers",
        f"{plan.samples} training images, {plan.steps} steps an epoch of up to "
        f"{config.train.batch_size} x {config.train.accumulate} x {world_size()} crops of "
        f"{config.data.crop[0]}x{config.data.crop[1]}, {config.train.epochs} epochs",
    )
    return Setup(
        config=config,
        task=task,
        device=step.device,
        model=model,
        seen_by_loss=seen_by_loss,
        wrapped=_wrapped(seen_by_loss, step.device, config.train.compile),
        average=average,
        optimizer=optimizer,
        loader=TrainingLoader(samples, plan, rank=rank(), workers=workers, pin=step.device.type == "cuda"),
        identity=_identity(config, task),
        origin=origin,
        notes=notes,
    )


def _trained(model: nn.Module) -> frozenset[str]:
    return frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)


COMPILE_MODES = {"default": "default", "cuda_graphs": "reduce-overhead"}


def _wrapped(model: nn.Module, device: torch.device, compiled: str) -> nn.Module:
    """The model as the loss sees it: compiled if asked for, and distributed where there are several processes."""
    if compiled != "none":
        model.compile(mode=COMPILE_MODES[compiled])
    if world_size() == 1:
        return model
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)


def _norm_note(device: torch.device, normed: bool) -> str:
    """Batch norm is synchronised where torch can (GPU), and per process on the CPU."""
    if world_size() == 1 or not normed:
        return ""
    if device.type == "cuda":
        return ", batch norm synchronised"
    return ", batch norm per process: torch synchronises it on GPUs only"


def _identity(config: Config, task: Task) -> Identity:
    tree = config.model_dump(mode="json")
    for name in MAY_CHANGE:
        section, _, key = name.partition(".")
        del tree[section][key]
    return Identity(hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest(), task.identity())
