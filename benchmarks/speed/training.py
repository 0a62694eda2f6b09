"""Training steps on batches that are ready: SMP's, and those of our loop, alternating in one process.

At equal arithmetic: ours without smoothing, and with SMP's loss and optimiser (cross entropy, AdamW); it does all that
a step of ours does besides: statistics kept and restored, confusion, gradient norm, average of the weights. The default
recipe stands beside it; on a GPU also ours with `train.compile`.

Legend: B batch, H W pixels, K classes.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.speed.peer import build_peer, normalized
from benchmarks.speed.rows import Row, timed_rows
from benchmarks.speed.settings import Bench
from torch import Tensor

import pyramidseg as ps
from pyramidseg.base.device import Precision, autocast, has_fast_bf16, resolve_precision
from pyramidseg.base.overrides import load_config
from pyramidseg.base.timing import Timing, alternate
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.loading import Batch
from pyramidseg.data.records import Dataset
from pyramidseg.demo.scenes import SCENE_CLASSES, draw_scene, write_scenes
from pyramidseg.model.cost import describe_cost
from pyramidseg.training.checkpoint import Checkpoints, Identity
from pyramidseg.training.components import TrainingComponents
from pyramidseg.training.interrupt import StopRequest
from pyramidseg.training.loop import train_epoch
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.segmentation_training import plan_segmentation

ENCODER = "resnet18"

DEPTHWISE = "efficientnet_b0"
"""Also measured: its depthwise convolutions have other costs."""

STEPS = 2
"""In a call, as our loop has some work before the first one."""

PEER, TUNED = "SMP as users run it", "SMP, channels_last and bf16"
"""Mixed precision as ours (`mixed_precision`); the name is kept where a card without fast bf16 takes fp16."""
OURS, DEFAULT = "ours", "ours, the default recipe with smoothing"
COMPILED, CUDA_GRAPHS = "ours, compiled", "ours, CUDA graphs"

EQUAL_SETTINGS: Mapping[str, Any] = {
    "model.smoothing": False,
    "loss.dice": 0.0,
    "loss.class_weights": "none",
    "optim.optimizer": "adamw",
}

OURS_SETTINGS: dict[str, Mapping[str, Any]] = {
    OURS: EQUAL_SETTINGS,
    COMPILED: {**EQUAL_SETTINGS, "train.compile": "default"},
    CUDA_GRAPHS: {**EQUAL_SETTINGS, "train.compile": "cuda_graphs"},
    DEFAULT: {},
}

ON_GPU = (COMPILED, CUDA_GRAPHS)
"""Those that only run on a CUDA GPU; on a CPU compiling a step does not help."""

PASSES = 3
"""Convolutions of a step for one of the forward pass: itself, and the gradients of its input and its weights."""


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        encoder: of timm.
        device: as torch writes it.
    """

    encoder: str
    classes: int
    batch: int
    crop_px: int
    device: str


@dataclass(frozen=True)
class HeldBatches:
    """A loader of as many steps as are wanted, all of one batch that is in memory already."""

    plan: EpochPlan
    batches: Sequence[Batch]

    def steps(self, epoch: int, *, start: int = 0) -> Iterator[Sequence[Batch]]:
        """The same batch again and again."""
        for _ in range(start, self.plan.steps):
            yield self.batches


def mixed_precision(device: torch.device) -> Precision:
    """bf16 where it is fast, else fp16 on a CUDA GPU (V100, T4); fp32 elsewhere, where 16 bits are only emulated."""
    return "bf16" if has_fast_bf16(device) else "fp16" if device.type == "cuda" else "fp32"


def precision_of(who: str, device: torch.device) -> Precision:
    """What a contestant computes in; the default recipe takes no fp16 by itself."""
    if who == PEER:
        return "fp32"
    return resolve_precision("auto", device) if who == DEFAULT else mixed_precision(device)


def precision_notes(device: torch.device) -> dict[str, str]:
    """A remark where the tuned peer is not in bf16."""
    return {TUNED: "fp16 with a GradScaler: no fast bf16"} if mixed_precision(device) == "fp16" else {}


def contestants(device: torch.device) -> tuple[str, ...]:
    """Everyone who can run there; peers first."""
    own = [who for who in OURS_SETTINGS if device.type == "cuda" or who not in ON_GPU]
    return (PEER, TUNED, *own)


def measure_training(bench: Bench) -> list[Row]:
    """Steps of every contestant, for each encoder."""
    return [row for encoder in (ENCODER, DEPTHWISE) for row in measure_encoder(bench, encoder)]


def measure_encoder(bench: Bench, encoder: str) -> list[Row]:
    """Steps of every contestant with one encoder."""
    settings, device = bench.settings, bench.device
    task = Task(encoder, settings.classes, settings.batch, settings.crop_px, str(device))
    with tempfile.TemporaryDirectory() as folder:
        batch = made_batch(task)
        calls = {who: open_trainer(who, task, batch, Path(folder)) for who in contestants(device)}
        bench.say(f"training steps: {encoder}, {len(calls)} contestants, {settings.rounds} rounds of {STEPS}")
        timed = alternate(calls, rounds=settings.rounds, warmup=min(2, settings.rounds), device=device)
    timings = {who: Timing(tuple(seconds / STEPS for seconds in timing.seconds)) for who, timing in timed.items()}
    images = settings.batch
    shares = shares_of_floor(bench, task, timings, images=images)
    notes = precision_notes(device)
    return timed_rows(group_name(task), timings, peers=[PEER, TUNED], images=images, shares=shares, notes=notes)


def shares_of_floor(bench: Bench, task: Task, timings: Mapping[str, Timing], *, images: int) -> dict[str, float | None]:
    """What the convolutions of training on so many images would take at the roofline, by contestant."""
    shares = {}
    for who, timing in timings.items():
        model = ps.Segmenter(
            num_classes=task.classes, encoder=task.encoder, encoder_weights="none", smoothing=who == DEFAULT
        )
        macs = PASSES * images * describe_cost(model, task.crop_px, task.crop_px).macs
        shares[who] = bench.roofline.share(macs, precision_of(who, bench.device), timing.median)
    return shares


def group_name(task: Task) -> str:
    """What rows of a task are called."""
    return f"{task.encoder}, batch of {task.batch}, crops of {task.crop_px}x{task.crop_px}"


def open_trainer(who: str, task: Task, batch: Batch, folder: Path) -> Callable[[], object]:
    """A contestant with its model and optimiser; every call takes `STEPS` steps on the batch.

    Args:
        folder: for what a run of ours reads and writes.
    """
    if who not in OURS_SETTINGS:
        step = peer_step(task, is_tuned=who == TUNED)
        return lambda: [step(batch) for _ in range(STEPS)]
    components = prepare_ours(task, OURS_SETTINGS[who], made_dataset(task, folder))
    held = HeldBatches(EpochPlan(samples=STEPS * task.batch, batch_size=task.batch), [batch])
    return epochs_of_ours(replace(components, loader=held), folder)  # type: ignore[arg-type]


def made_batch(task: Task) -> Batch:
    """Scenes as a loader hands them over."""
    scenes = [draw_scene(index, height=task.crop_px, width=task.crop_px) for index in range(task.batch)]
    images_BHWC, labels_BHW = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*scenes, strict=True))
    return Batch(images_BHWC.permute(0, 3, 1, 2), labels_BHW, tuple((0, index) for index in range(task.batch)))


def made_dataset(task: Task, folder: Path) -> Dataset:
    """As many scenes as a batch has, whose classes are among as many as the task has."""
    names = [*SCENE_CLASSES.names, *(f"absent{index}" for index in range(task.classes))][: task.classes]
    root = folder / "scenes"
    if not root.exists():
        write_scenes(root, train=task.batch, val=1, height=task.crop_px, width=task.crop_px)
    records = {
        split: [
            ps.Record(id=path.stem, image=path, mask=root / split / "masks" / path.name)
            for path in sorted((root / split / "images").iterdir())
        ]
        for split in ("train", "val")
    }
    return dataset_from_records(train=records["train"], val=records["val"], classes=names)


def prepare_ours(task: Task, settings: Mapping[str, Any], dataset: Dataset | str) -> TrainingComponents:
    """A run of ours, all but begun."""
    overrides = {
        "model.encoder": task.encoder,
        "model.encoder_weights": "none",
        "data.crop": task.crop_px,
        "train.batch_size": task.batch,
        "train.device": task.device,
        "train.checkpoint_minutes": 0,
        **({"train.precision": mixed_precision(torch.device(task.device))} if settings else {}),  # else the defaults
        **({"data.workers": 0, "data.cache": "none"} if isinstance(dataset, Dataset) else {}),
        **settings,
    }
    return plan_segmentation(load_config(overrides=overrides), dataset)


def epochs_of_ours(components: TrainingComponents, folder: Path) -> Callable[[], TrainingProgress]:
    """Our loop's epoch, from its first step to its last, each time it is called."""
    run = RunFolder(folder / "run")

    def epoch() -> TrainingProgress:
        progress = TrainingProgress()
        checkpoints = Checkpoints(run, Identity("", ""), components.config)
        counts = components.task.empty_counts()
        train_epoch(components, progress, counts, checkpoints=checkpoints, stop=StopRequest())
        return progress

    return epoch


def peer_step(task: Task, *, is_tuned: bool) -> Callable[[Batch], None]:
    """A step of SMP's network, as its examples write it: normalisation inside, cross entropy, the loss logged."""
    device = torch.device(task.device)
    model = build_peer(task.encoder, task.classes).train().to(device)
    if is_tuned:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=255)
    precision = mixed_precision(device) if is_tuned else "fp32"
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step(batch: Batch) -> None:
        images = normalized(batch.images.to(device))
        layout = torch.channels_last if is_tuned else torch.contiguous_format
        with autocast(precision, device):
            logits: Tensor = model(images.contiguous(memory_format=layout))
        loss = loss_of(logits.float(), batch.labels.to(device).long())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()

    return step
