"""The components of a training run: what the loop needs besides the task."""

import logging
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pyramidseg.base.config import Config
from pyramidseg.base.distributed import rank, world_size
from pyramidseg.base.errors import ConfigError, OutOfMemory, TrainingError
from pyramidseg.base.exhaustion import OUT_OF_MEMORY, exhausted
from pyramidseg.base.machine import available_processors
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.data.loading import Batch, TrainingLoader
from pyramidseg.training.optim import ModelEma, make_optimizer, set_training_mode
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.task import Task, Validation

logger = logging.getLogger(__name__)

COMPILE_MODES = {"default": "default", "cuda_graphs": "reduce-overhead"}
"""Mode of `torch.compile` by value of `train.compile`."""


@dataclass(frozen=True)
class TrainingComponents:
    """Task, optimizer, EMA, distributed module and loader of a run.

    Attributes:
        ddp_module: the task's `train_module`, inside DistributedDataParallel if there are several processes.
        ema: moving average of the model's weights; None if it is off.
        notes: choices that were made for the user, for the log and the report.
    """

    task: Task
    optimizer: torch.optim.Optimizer
    ema: ModelEma | None
    ddp_module: nn.Module
    loader: TrainingLoader
    notes: tuple[str, ...]

    @property
    def config(self) -> Config:
        return self.task.config

    @property
    def model(self) -> nn.Module:
        return self.task.model

    @property
    def saved_model(self) -> nn.Module:
        """The model that is validated and saved as a bundle: the EMA if it is on."""
        return self.ema.model if self.ema else self.model

    def for_epoch(self, epoch: int) -> "TrainingComponents":
        """Set the training mode and freeze parameters as they are in an epoch (from 0)."""
        before = _trainable_names(self.model)
        set_training_mode(self.model, self.config.optim, epoch=epoch)
        if world_size() > 1 and _trainable_names(self.model) != before:
            # DistributedDataParallel only reduces the gradients of parameters that were trainable when it was made.
            module = _distributed(self.task.train_module, self.task.accelerator.device, self.config.train.compile)
            return replace(self, ddp_module=module)
        return self

    def gradients_that_fit(
        self, batches: Sequence[Batch], progress: TrainingProgress, number: int
    ) -> tuple[Tensor, Tensor] | None:
        """`Task.gradients`; None if memory did not suffice, and from then on batches have half the size.

        A step keeps its samples. The error is raised where nothing can be halved: one sample, several processes (the
        others already wait for this one), or a crop so small that batch norm needs several.
        """
        parts = [part for batch in batches for part in batch.split(progress.largest_batch)]
        largest = max(len(part.keys) for part in parts)
        try:
            ema, scale = self.ema.model if self.ema else None, progress.loss_scale or 1.0
            return self.task.gradients(self.ddp_module, parts, number, ema=ema, loss_scale=scale)
        except Exception as error:
            too_small = max(self.config.data.crop) <= self.config.model.coarsest_stride
            if too_small or not _may_halve(error, largest):
                raise
        progress.largest_batch = -(-largest // 2)
        logger.warning(
            f"out of memory with {largest} crops at once: from here on at most {progress.largest_batch}, whose "
            "gradients are added up, so that a step has as many crops as before"
        )
        return None

    def validation_that_fits(self, progress: TrainingProgress) -> Validation | None:
        """`Task.validate`; None if memory did not suffice, and from then on its batches have half the size."""
        with self._halves_validation(progress):
            return self.task.validate(self.saved_model, batch_size=progress.val_batch_size(self.config))
        return None

    def report_that_fits(self, run: RunFolder, progress: TrainingProgress) -> bool:
        """`Task.write_report`; False if memory did not suffice, and from then on its batches have half the size."""
        with self._halves_validation(progress):
            self.task.write_report(run, progress, self.notes)
            return True
        return False

    @contextmanager
    def _halves_validation(self, progress: TrainingProgress) -> Iterator[None]:
        """Halve the batches of validation, and suppress the error, if memory does not suffice.

        The error is raised where nothing can be halved: one image, or several processes.
        """
        size = progress.val_batch_size(self.config)
        try:
            yield
        except Exception as error:
            if not _may_halve(error, size):
                raise
            progress.largest_val_batch = -(-size // 2)
            logger.warning(
                f"out of memory in validation with batches of {size}: from here on of {progress.largest_val_batch}"
            )


def _may_halve(error: Exception, batch: int) -> bool:
    cause = error.__cause__ if isinstance(error, OutOfMemory) else None  # a backend has explained it
    return exhausted(cause or error) == OUT_OF_MEMORY and batch > 1 and world_size() == 1


def build_components(task: Task) -> TrainingComponents:
    """Build optimizer, EMA, distributed module and loader for a task, and log what was chosen."""
    config, device, plan = task.config, task.accelerator.device, task.plan
    set_training_mode(task.model, config.optim, epoch=0)
    optimizer = make_optimizer(task.model, config.optim)
    ema = ModelEma(task.model, config.optim.ema) if config.optim.ema else None
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) and module.training for module in task.model.modules())
    module = task.train_module
    if world_size() > 1 and device.type == "cuda":
        # torch's own conversion drops the activations that are part of timm's norms.
        module = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    workers = loading_workers(config, device)
    processes = "1 process" if world_size() == 1 else f"{world_size()} processes"
    notes = (
        *task.notes,
        f"{device}, {task.accelerator.precision}, {processes}{_batch_norm_note(device, has_batch_norm)}, "
        f"{workers} loading workers",
        f"{plan.samples // config.data.crops_per_image} training images, {plan.steps} steps per epoch of up to "
        f"{config.train.batch_size} x {config.train.accumulate} x {world_size()} crops of "
        f"{config.data.crop[0]}x{config.data.crop[1]}, {config.train.epochs} epochs",
    )
    for note in notes:
        logger.info(note)
    return TrainingComponents(
        task=task,
        optimizer=optimizer,
        ema=ema,
        ddp_module=_distributed(module, device, config.train.compile),
        loader=TrainingLoader(task.samples, plan, rank=rank(), workers=workers, pin=device.type == "cuda"),
        notes=notes,
    )


def plan_epochs(
    config: Config,
    *,
    samples: int,
    sets: Sequence[str] = (),
    shares: Mapping[str, float | None] | None = None,
    unlabeled: int = 0,
) -> EpochPlan:
    """The division of an epoch's samples into steps, processes and micro-batches.

    Args:
        sets: of joined datasets the set of each sample.
        shares: by set; None for the share of its samples.

    Raises:
        DataError: there are fewer samples than one step needs, or than there are sets with a share.
    """
    chosen = {name: share for name in dict.fromkeys(sets) if (share := (shares or {}).get(name)) is not None}
    return EpochPlan(
        samples=samples,
        sets=bytes([*chosen].index(name) for name in sets) if chosen else b"",
        shares=tuple(chosen.values()),
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        world_size=world_size(),
        seed=config.train.seed,
        unlabeled=unlabeled,
    )


def local_processes() -> int:
    """Training processes on this machine, which share its processors and its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def loading_workers(config: Config, device: torch.device) -> int:
    """Loading processes of this training process: as set, else 1 for training on the CPU, and up to 8 for a GPU.

    Raises:
        ConfigError: this process may not start any.
    """
    share = max(1, available_processors() // local_processes()) if device.type != "cpu" else 1
    workers = min(8, share) if config.data.workers is None else config.data.workers
    if workers and multiprocessing.current_process().daemon:
        raise ConfigError(
            f"data.workers={workers}: a daemonic process, such as one of a multiprocessing.Pool, cannot start loading "
            "workers; give `workers=0`"
        )
    return workers


@contextmanager
def compile_errors_explained() -> Iterator[None]:
    """Turn a failure of `torch.compile` (for example because there is no C compiler) into one line.

    Raises:
        TrainingError: compilation failed.
    """
    from torch._dynamo.exc import TorchDynamoException  # slow to import, and rarely needed
    from torch._inductor.exc import InductorError

    try:
        yield
    except (TorchDynamoException, InductorError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise TrainingError(f"train.compile: torch.compile failed ({reason}); choose train.compile=none") from error


def _trainable_names(model: nn.Module) -> frozenset[str]:
    return frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)


def _distributed(module: nn.Module, device: torch.device, compiled: str) -> nn.Module:
    """The module, compiled if requested, inside DistributedDataParallel if there are several processes."""
    if compiled != "none":
        module.compile(mode=COMPILE_MODES[compiled])
    if world_size() == 1:
        return module
    ids = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True)


def _batch_norm_note(device: torch.device, has_batch_norm: bool) -> str:
    """Batch norm is synchronized on GPUs, and per process on CPUs, where torch cannot synchronize it."""
    if world_size() == 1 or not has_batch_norm:
        return ""
    if device.type == "cuda":
        return ", batch norm synchronized"
    return ", batch norm per process: torch synchronizes it on GPUs only"
