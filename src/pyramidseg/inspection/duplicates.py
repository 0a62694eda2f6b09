"""Images that are there more than once: in one split, in two, or nearly so.

Two images are the same where every decoded pixel is; which are compared, their sizes and checksums say. They look the
same where their hashes and thumbnails do (`lookalikes`). Frames of a video look the same as their neighbours: inside a
split that is only told, across splits it lets a model be scored on what it has been trained on.
"""

import filecmp
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.images.decode import read_masked_image
from pyramidseg.inspection.image_table import ImageTable
from pyramidseg.inspection.perceptual_hash import MAX_BITS, MIN_CORRELATION, correlation, nearest, nearest_other


class Neighbours(NamedTuple):
    """Images of one split that look like another one of it.

    Attributes:
        images: how many do.
        example: two of them.
    """

    split: str
    images: int
    example: tuple[Path, Path]


def find_copies(table: ImageTable, masks: MaskSource) -> Iterator[Defect]:
    """Images that are in their split twice or in an earlier split too, as they are or nearly; one defect an image."""
    places, told = table.places, set()
    for group in table.same():
        originals: list[dict[str, int]] = []  # for each different image its first place in each split
        for place in group.tolist():
            record, split = places.record(place), places.split(place)
            firsts = next((some for some in originals if _same_pixels(places.record(min(some.values())), record)), None)
            if firsts is None:
                originals.append({split: place})
                continue
            told.add(place)
            yield _copy(table, place, firsts, masks)
            firsts.setdefault(split, place)
    for place, other, bits in _leaks(table):
        first = places.record(other)
        if place not in told and _looks_the_same(first, places.record(place)):
            detail = (
                f"looks like {first.image} of split {places.split(other)} (their hashes differ in {bits} of 64 bits); "
                "keep images of one scene or sequence in one split (data.group)"
            )
            yield Defect(DefectKind.LEAK, places.record(place).image, detail)


def find_neighbours(table: ImageTable) -> Iterator[Neighbours]:
    """How many images of each split look like another one of it, and are not the very same."""
    repeated = [place for group in table.same() for place in group[1:].tolist()]
    for number, split in enumerate(table.places.splits):
        members = np.setdiff1d(_hashed(table, number), repeated)
        if len(members) < 2:
            continue
        found = nearest_other(table.look[members])
        alike = np.flatnonzero(found.place >= 0)
        if len(alike):
            pair = members[alike[0]], members[found.place[alike[0]]]
            paths = tuple(table.places.record(int(place)).image for place in pair)
            yield Neighbours(split, len(alike), (paths[0], paths[1]))


def _copy(table: ImageTable, place: int, firsts: Mapping[str, int], masks: MaskSource) -> Defect:
    places = table.places
    record, here = places.record(place), places.split(place) in firsts
    other = firsts[places.split(place)] if here else min(firsts.values())
    first = places.record(other)
    bytes_too = filecmp.cmp(first.image, record.image, shallow=False)
    same = f"{'is the same file as' if bytes_too else 'has the same pixels as'} {first.image}"
    agree = _same_labels(first, record, masks)
    if not here:
        masked = "" if agree else ", there with another mask"
        detail = f"{same} of split {places.split(other)}{masked}; take it out of one of them"
        return Defect(DefectKind.LEAK, record.image, detail)
    if not agree:
        return Defect(DefectKind.CONTRADICTION, record.image, f"{same}, and their masks differ; keep the right one")
    return Defect(DefectKind.DUPLICATE, record.image, f"{same}; keep one of them")


def _leaks(table: ImageTable) -> Iterator[tuple[int, int, int]]:
    """Image, the image of an earlier split that looks most like it, and how many bits their hashes differ in."""
    for number in range(1, len(table.places.splits)):
        members = _hashed(table, number)
        before = np.concatenate([_hashed(table, earlier) for earlier in range(number)])
        if not len(members) or not len(before):
            continue
        found = nearest(table.look[members], table.look[before], max_bits=MAX_BITS)
        for index in np.flatnonzero(found.place >= 0).tolist():
            yield int(members[index]), int(before[found.place[index]]), int(found.bits[index])


def _hashed(table: ImageTable, split: int) -> NDArray[np.int64]:
    start, end = table.places.starts[split : split + 2]
    return start + np.flatnonzero(table.looks_like[start:end])


def _same_pixels(first: Record, second: Record) -> bool:
    try:
        if filecmp.cmp(first.image, second.image, shallow=False):
            return True
        one, other = read_masked_image(first.image), read_masked_image(second.image)
        return bool(np.array_equal(one.values, other.values))
    except (DataError, OSError):
        return False


def _looks_the_same(first: Record, second: Record) -> bool:
    try:
        one, other = read_masked_image(first.image).filled(), read_masked_image(second.image).filled()
        return correlation(one, other) >= MIN_CORRELATION
    except DataError:
        return False


def _same_labels(first: Record, second: Record, masks: MaskSource) -> bool:
    """Whether two masks say the same, as far as they can be read."""
    try:
        return bool(np.array_equal(masks.read(first), masks.read(second)))
    except DataError:
        return True
