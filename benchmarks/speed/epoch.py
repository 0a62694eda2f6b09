"""An epoch, images decoded and augmented by worker processes: SMP's network and ours, with the same loader.

Each goes through all training images in every round, of CamVid 367; nothing is validated. Images that fit into memory
are decoded into it before, as they are when training begins. What our loop waits for data is noted.
"""

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.speed.rows import Row, timed_rows
from benchmarks.speed.settings import Bench
from benchmarks.speed.training import (
    ENCODER,
    OURS,
    OURS_SETTINGS,
    PEER,
    TUNED,
    Task,
    epochs_of_ours,
    peer_step,
    precision_notes,
    prepare_ours,
    shares_of_floor,
)

from pyramidseg.base.timing import alternate
from pyramidseg.data.loading import Batch
from pyramidseg.demo.scenes import write_scenes
from pyramidseg.training.components import TrainingComponents
from pyramidseg.training.progress import TrainingProgress

CAMVID, SCENES = "CamVid", "synthetic scenes"

CROP_PX = 320

MADE = 96
"""Scenes of 360x480, where no dataset was given: a quarter of CamVid, drawn in 15 seconds."""

ROUNDS = 3
"""An epoch takes minutes; fewer are taken where fewer are asked for."""


def measure_epoch(bench: Bench) -> list[Row]:
    """An epoch each, in turn."""
    camvid = bench.settings.camvid
    task = Task(ENCODER, bench.settings.classes, bench.settings.batch, CROP_PX, str(bench.device))
    waited: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = camvid or str(write_scenes(Path(folder) / "scenes", train=MADE, val=1, height=360, width=480))
        components = prepare_ours(task, OURS_SETTINGS[OURS], dataset)
        components.loader.preload()
        task = replace(task, classes=len(components.task.empty_counts()))
        ours = epochs_of_ours(components, Path(folder))
        calls: dict[str, Callable[[], object]] = {
            PEER: partial(_peer_epoch, components, peer_step(task, is_tuned=False)),
            TUNED: partial(_peer_epoch, components, peer_step(task, is_tuned=True)),
            OURS: lambda: waited.append(_waiting_share(ours())),
        }
        rounds = min(ROUNDS, bench.settings.rounds)
        bench.say(f"epochs: {rounds} each")
        timings = alternate(calls, rounds=rounds, warmup=0, device=bench.device)
    rows = timed_rows(
        f"{CAMVID if camvid else SCENES}, {ENCODER}, batch of {task.batch}, crops of {CROP_PX}x{CROP_PX}",
        timings,
        peers=[PEER, TUNED],
        images=components.loader.plan.samples,
        notes=precision_notes(bench.device),
        shares=shares_of_floor(bench, task, timings, images=components.loader.plan.samples),
    )
    share = statistics.median(waited)
    return [replace(row, waiting_share=share) if row.who == OURS else row for row in rows]


def _peer_epoch(components: TrainingComponents, step: Callable[[Batch], None]) -> None:
    for batches in components.loader.steps(0):
        for batch in batches:
            step(batch)


def _waiting_share(progress: TrainingProgress) -> float:
    return progress.waited / progress.seconds
