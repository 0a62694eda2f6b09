"""Prepare a dataset for training: open it, check every mask, and measure what the network needs to know."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pyramidseg.base.config import Config
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.machine import free_bytes
from pyramidseg.base.text import first_few
from pyramidseg.data.loading import TrainingSamples, workers_are_forked
from pyramidseg.data.normalization import (
    Normalization,
    measure_ground_resolution,
    measure_normalization,
    measure_value_range,
    uses_dataset_statistics,
)
from pyramidseg.data.pairs import AllPixels, FilePairs, cache_note
from pyramidseg.data.records import Dataset, DatasetSource, Record
from pyramidseg.data.transforms import Augmentation, unused_steps
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.paired import MASK_FOLDERS
from pyramidseg.images.image_files import list_images
from pyramidseg.images.value_range import ValueRange
from pyramidseg.inspection.defect_summary import refuse_files
from pyramidseg.inspection.duplicates import find_duplicates
from pyramidseg.inspection.pair_collector import PairCollector
from pyramidseg.inspection.training_check import DatasetSummary, check_dataset, fingerprint

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedData:
    """A dataset that has been opened, checked and measured.

    Attributes:
        config: the settings, completed by what the dataset determines (the input channels, where it names its bands).
        summary: counts and fingerprint of the splits `train` and `val`.
        normalization: mean and standard deviation of the training images; None if the encoder's own values apply.
        value_range: type and range of the training images; None if they have several types.
        resolution_m: median ground resolution of the training images that have one; None without any.
        unlabeled: images of `data.unlabeled`; the fingerprint is of these too.
        left_out: images of `data.unlabeled` that are not among them, each with the scored image that it is a copy of.
    """

    config: Config
    dataset: Dataset
    summary: DatasetSummary
    normalization: Normalization | None
    value_range: ValueRange | None
    unlabeled: tuple[Record, ...] = ()
    resolution_m: float | None = None
    left_out: tuple[str, ...] = ()


def prepare_data(source: DatasetSource, config: Config) -> PreparedData:
    """Open a dataset and `check_and_measure` it.

    Raises:
        DataError: the layout is ambiguous or unknown, or as `check_and_measure`.
        ConfigError: the settings contradict the dataset.
    """
    return check_and_measure(open_dataset(source, config.data), config)


def check_and_measure(dataset: Dataset, config: Config) -> PreparedData:
    """Check all images and masks of `train` and `val`, and measure the normalisation if it is needed.

    Logs the recognised layout, everything that was inferred, the number of images, and the notes of the check.

    Raises:
        DataError: a split is missing, or images or masks have defects.
        ConfigError: the settings contradict the dataset.
    """
    logger.info(f"{dataset.source}: {dataset.layout}")
    for note in dataset.notes:
        logger.info(f"  {note}")
    dataset.split("train"), dataset.split("val")  # raises if one is missing
    config = _with_channels_of_bands(config, dataset)
    channels = config.model.channels
    summary = check_dataset(dataset, splits=("train", "val"), channels=channels)
    for name, split in summary.splits.items():
        logger.info(f"  {name}: {split.images} images")
    if summary.leak and not config.data.allow_leak:
        raise DataError(
            f"{dataset.source}: {summary.leak}; a model would be scored on what it was trained on: remove them from "
            "one of the two (pyramidseg inspect lists all), or accept it with data.allow_leak=true"
        )
    for note in summary.notes:
        logger.warning(note)
    dtypes, pretrained = summary.splits["train"].dtypes, config.model.weights != "random"
    unlabeled, left_out = open_unlabeled(dataset, config, dtypes) if config.data.unlabeled else ((), ())
    if unlabeled:
        both = fingerprint({name: dataset.split(name) for name in summary.splits} | {"unlabeled": unlabeled}, dataset)
        summary = replace(summary, fingerprint=both)
    normalization = None
    if uses_dataset_statistics(config.data.normalization, dtypes=dtypes, channels=channels, pretrained=pretrained):
        normalization = measure_normalization(dataset.split("train"), channels=channels)
    value_range = measure_value_range(dataset.split("train"), dtypes, channels=channels, normalization=normalization)
    resolution_m = measure_ground_resolution(dataset.split("train"))
    return PreparedData(config, dataset, summary, normalization, value_range, unlabeled, resolution_m, left_out)


def open_unlabeled(
    dataset: Dataset, config: Config, dtypes: tuple[str, ...]
) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """The images of the folder `data.unlabeled`, all decoded once, except copies of images that models are scored on.

    Args:
        dtypes: of the training images.

    Returns:
        The images, and a sentence on each that is left out.

    Raises:
        ConfigError: the average of the weights, which labels the images, is off.
        DataError: no images, images that cannot be used, or a folder of masks among them.
    """
    if not config.optim.ema:
        raise ConfigError("data.unlabeled: the average of the weights labels these images; remove optim.ema=0")
    folder = Path(config.data.unlabeled or "")
    setting = f"data.unlabeled={folder}"
    if not (files := list_images(folder) if folder.is_dir() else []):
        reason = "no images in this folder or its subfolders" if folder.is_dir() else "no such folder"
        raise DataError(f"{setting}: {reason}; give a folder of images")
    found = tuple(Record(file.relative_to(folder).as_posix(), file) for file in files)
    for record in found:
        parts = (folder.resolve().name, *Path(record.id).parts[:-1])
        if masks := {part.lower() for part in parts} & {*MASK_FOLDERS}:
            detail = f"{record.image} is in a folder of masks by its name ({min(masks)})"
            raise DataError(f"{setting}: {detail}; give the folder of the images alone, or rename this one")
    scored = tuple(record for split in ("val", "test") for record in dataset.splits.get(split, ()))
    without_masks = replace(dataset, masks=AllPixels())
    collected = PairCollector(without_masks, {"val or test": scored, "unlabelled": found})
    collected.inspect(channels=config.model.channels, decode_images=True, task="checking unlabelled images")
    harmless = (DefectKind.BLANK_IMAGE, DefectKind.ALL_IGNORED)
    defects = [one for one in collected.defects if one.kind not in harmless]
    for image in collected.images:
        if image.facts.dtype not in dtypes:
            detail = f"has {image.facts.dtype} values, but the training images have {', '.join(dtypes)}; convert it"
            defects.append(Defect(DefectKind.MIXED_DEPTHS, image.record.image, detail))
    refuse_files(setting, defects, total=len(found))
    duplicates = find_duplicates(collected.images, AllPixels())
    copies = {one.file: one for one in duplicates if one.kind is DefectKind.LEAK}
    left_out = tuple(f"{file} {copy.detail.partition(';')[0]}" for file, copy in copies.items())
    what = f"{len(copies)} of {len(found)} images are copies of images that models are scored on: {first_few(left_out)}"
    if len(copies) == len(found):
        raise DataError(f"{setting}: {what}; give others")
    if copies:
        logger.warning(f"{setting}: {what}; they are left out (all: recorded.unlabeled_left_out in RUN/dataset.yaml)")
    logger.info(f"  unlabelled: {len(found) - len(copies)} images")
    return tuple(record for record in found if record.image not in copies), left_out


def training_samples(data: PreparedData, *, workers: int, processes: int) -> tuple[TrainingSamples, str]:
    """Augmented training samples, decoded from files or held in RAM.

    Args:
        workers: loading processes of this process.
        processes: training processes on this machine, which share its memory.

    Returns:
        The samples, and a note on the RAM cache (empty if there is nothing to report).
    """
    config, train = data.config, data.summary.splits["train"]
    pixel_bytes = config.model.in_channels * max(np.dtype(name).itemsize for name in train.dtypes) + 1
    note = cache_note(
        len(data.dataset.split("train")),
        config.data.cache,
        size_bytes=(sum(train.pixels) + train.ignored) * pixel_bytes,
        free_bytes=free_bytes(torch.device("cpu")) // processes,
        copies=1 if workers_are_forked() else max(1, workers),
        epochs=config.train.epochs,
    )
    pairs = FilePairs(data.dataset.split("train"), data.dataset.masks, config.model.channels, cached=bool(note))
    augmentation = Augmentation(config.data, tuple(train.pixels))
    for name in train.dtypes:
        if unused := unused_steps(config.data, np.dtype(name), config.model.in_channels):
            logger.warning(f"{', '.join(unused)}: no effect on {name} images of {config.model.in_channels} channels")
    unlabeled = FilePairs(data.unlabeled, AllPixels(), config.model.channels)
    return TrainingSamples(pairs, augmentation=augmentation, seed=config.train.seed, unlabeled=unlabeled), note


def _with_channels_of_bands(config: Config, dataset: Dataset) -> Config:
    """Take the bands that the dataset names as input channels of the network.

    Raises:
        ConfigError: `model.in_channels` was set to another number.
    """
    if dataset.bands is None:
        return config
    number, given = len(dataset.bands), config.model.in_channels
    if "in_channels" in config.model.model_fields_set and given != number:
        raise ConfigError(
            f"data.bands={list(dataset.bands)} are {number} channels but model.in_channels={given}; remove "
            "model.in_channels, or make the two agree"
        )
    update = {"in_channels": number, "input_bands": dataset.bands}
    return config.model_copy(update={"model": config.model.model_copy(update=update)})
