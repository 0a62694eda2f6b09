"""Which images stand for a dataset, and their pictures with the masks over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import Dataset, Record
from pyramidseg.images.decode import read_header
from pyramidseg.images.thumbnails import jpeg_uri, labels_png_uri, resize_to_thumbnail, to_rgb
from pyramidseg.inspection.image_table import PixelIndex

PICTURES = 12
"""As many at least, where there are so many images; more only where classes need them."""

WIDTH_PX = 320


@dataclass(frozen=True)
class Sample:
    """One image of the sheet; the pictures are data URIs of one size.

    Attributes:
        mask: in the colours of the classes, ignored pixels transparent.
        shown: the classes that occur.
    """

    split: str
    record_id: str
    image: str
    mask: str
    shown: tuple[int, ...]


class Showcase:
    """For each class the image that it covers most of, kept while images go by. Equal ones: the first."""

    def __init__(self, num_classes: int, images: int) -> None:
        self._share = np.zeros(num_classes)
        self._best = np.full(num_classes, -1, np.int64)
        self._presence: dict[int, NDArray[np.bool_]] = {}
        self._usable = np.zeros(images, np.bool_)

    def offer(self, place: int, labels: NDArray[np.int64]) -> None:
        """Take an image into account, with (256,) pixels by label; in ascending order of places."""
        self._usable[place] = True
        counts = labels[: len(self._share)]
        share = counts / max(1, labels.sum())
        better = share > self._share
        if better.any():
            self._share[better], self._best[better] = share[better], place
            self._presence[place] = counts > 0
            self._presence = {place: self._presence[place] for place in set(self._best.tolist()) - {-1}}

    def choice(self, count: int = PICTURES) -> list[int]:
        """PixelIndex such that every class that occurs is shown, filled up evenly to `count`.

        The class that is to be shown next is the rarest that is not yet: the image for it may show others as well.
        """
        rarest_first = np.argsort(self._share, kind="stable").tolist()
        chosen: list[int] = []
        shown = np.zeros(len(self._share), np.bool_)
        for index in rarest_first:
            place = int(self._best[index])
            if place >= 0 and not shown[index]:
                chosen.append(place)
                shown |= self._presence[place]
        rest = np.setdiff1d(np.flatnonzero(self._usable), chosen)
        spare = min(max(0, count - len(chosen)), len(rest))
        filled = rest[np.linspace(0, len(rest) - 1, spare).round().astype(int)] if spare else rest[:0]
        return sorted({*chosen, *filled.tolist()})


def draw(dataset: Dataset, places: PixelIndex, chosen: Sequence[int]) -> tuple[Sample, ...]:
    """The pictures of a choice; of images without three channels, as `to_rgb` shows them."""
    return tuple(_sample(dataset, places.split(place), places.record(place)) for place in chosen)


def _sample(dataset: Dataset, split: str, record: Record) -> Sample:
    header, classes = read_header(record.image), dataset.classes
    image, labels = read_pair(record, dataset.masks, channels=dataset.bands or header.channels - header.alpha)
    shown = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[: len(classes)])
    return Sample(
        split=split,
        record_id=record.id,
        image=jpeg_uri(resize_to_thumbnail(to_rgb(image), max_width_px=WIDTH_PX)),
        mask=labels_png_uri(labels, classes, max_width_px=WIDTH_PX),
        shown=tuple(shown.tolist()),
    )
