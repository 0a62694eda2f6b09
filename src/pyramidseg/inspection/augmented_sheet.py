"""Samples as training sees them: crops of the training images after augmentation, for the page of an inspection."""

import numpy as np

from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import PyramidSegError
from pyramidseg.data.loading import TrainingSamples
from pyramidseg.data.pairs import FilePairs
from pyramidseg.data.transforms import Augmentation
from pyramidseg.inspection.contact_sheet import MIN_SAMPLES, Sample, make_sample
from pyramidseg.inspection.inspect_dataset import Inspection


def draw_augmented(inspection: Inspection, data: DataConfig) -> tuple[Sample, ...]:
    """The crops of a few training images, at even distances, that the first epoch of a run with seed 0 draws.

    Images that cannot be read are left out: the inspection lists them as defects.
    """
    dataset = inspection.dataset
    records = dataset.splits.get("train", ())
    if not records or not inspection.channel_groups:
        return ()
    pairs = FilePairs(records, dataset.masks, dataset.bands or len(inspection.channel_groups[0].channels))
    pixels = inspection.summaries["train"].pixels
    samples = TrainingSamples(pairs, augmentation=Augmentation(data, tuple(pixels)), seed=0)
    drawn = []
    for index in np.linspace(0, len(records) - 1, min(MIN_SAMPLES, len(records))).round().astype(int).tolist():
        sample = samples[0, index]
        if not isinstance(sample, PyramidSegError):
            image, labels, _ = sample
            drawn.append(make_sample(dataset.classes, "train", records[index].id, image, labels))
    return tuple(drawn)
