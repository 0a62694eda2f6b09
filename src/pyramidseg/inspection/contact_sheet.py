"""Contact sheet: a few images that show every class, with their masks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Classes
from pyramidseg.images.thumbnails import jpeg_uri, labels_png_uri, resize_to_thumbnail, to_rgb

MIN_SAMPLES = 12
"""Samples on a sheet, if there are as many images; more only if classes need them."""

WIDTH_PX = 320


@dataclass(frozen=True)
class Sample:
    """One image of the sheet.

    Attributes:
        image: data URI.
        mask: data URI of the same size, in the colours of the classes; ignored pixels are transparent.
        class_ids: the classes that occur.
    """

    split: str
    record_id: str
    image: str
    mask: str
    class_ids: tuple[int, ...]


class SampleSelector:
    """Selects for each class the image with the largest share of it; the first of equal ones."""

    def __init__(self, num_classes: int) -> None:
        self._share = np.zeros(num_classes)
        self._best = np.full(num_classes, -1, np.int64)
        self._presence: dict[int, NDArray[np.bool_]] = {}
        self._usable: list[int] = []

    def add(self, index: int, label_counts: NDArray[np.int64]) -> None:
        """Consider an image, with (256,) pixels by label; indices must ascend."""
        self._usable.append(index)
        counts = label_counts[: len(self._share)]
        share = counts / max(1, label_counts.sum())
        better = share > self._share
        if better.any():
            self._share[better], self._best[better] = share[better], index
            self._presence[index] = counts > 0
            self._presence = {best: self._presence[best] for best in set(self._best.tolist()) - {-1}}

    def select(self, count: int = MIN_SAMPLES) -> list[int]:
        """Indices that show every class that occurs, filled up to `count` at even distances.

        Rare classes are served first: the image selected for one often shows others as well.
        """
        chosen: list[int] = []
        shown = np.zeros(len(self._share), np.bool_)
        for class_id in np.argsort(self._share, kind="stable").tolist():
            index = int(self._best[class_id])
            if index >= 0 and not shown[class_id]:
                chosen.append(index)
                shown |= self._presence[index]
        rest = np.setdiff1d(np.array(self._usable, np.int64), chosen)
        spare = min(max(0, count - len(chosen)), len(rest))
        filled = rest[np.linspace(0, len(rest) - 1, spare).round().astype(int)] if spare else rest[:0]
        return sorted({*chosen, *filled.tolist()})


def make_sample(classes: Classes, split: str, record_id: str, image: NDArray[Any], labels: NDArray[np.uint8]) -> Sample:
    """A sample of an image, (H, W, C) of any dtype (see `to_rgb`), and its labels, (H, W)."""
    occurring = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[: len(classes)])
    return Sample(
        split=split,
        record_id=record_id,
        image=jpeg_uri(resize_to_thumbnail(to_rgb(image), max_width_px=WIDTH_PX)),
        mask=labels_png_uri(labels, classes, max_width_px=WIDTH_PX),
        class_ids=tuple(occurring.tolist()),
    )
