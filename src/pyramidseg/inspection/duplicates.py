"""Duplicate images: in one split, in two splits, or nearly identical.

Images are identical if all decoded pixels are; only those of equal size and checksum are compared. They are similar if
their hashes and thumbnails are (`perceptual_hash`). Neighbouring frames of a video are similar, which is a defect
across splits only, because a model would be scored on what it was trained on.
"""

import filecmp
import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.images.decode import read_masked_image
from pyramidseg.images.scene_windows import scene_of
from pyramidseg.inspection.dataset_checks import ListedImage
from pyramidseg.inspection.inspect_pair import ImageFacts
from pyramidseg.inspection.perceptual_hash import MIN_CORRELATION, nearest_hashes, thumbnail_correlation

EXCERPT_BYTES = 4096


def find_duplicates(images: Sequence[ListedImage], masks: MaskSource) -> Iterator[Defect]:
    """Images that are in their split twice, or in an earlier split too, identical or similar.

    Each copy of an image of an earlier split is a leak, even if it is a copy of one of its own split too.
    """
    groups: dict[ImageFacts, list[ListedImage]] = {}
    for image in images:
        groups.setdefault(image.facts, []).append(image)
    leaks: set[ListedImage] = set()
    for group in groups.values():
        originals: list[ListedImage] = []  # the first of each different image
        for image in group:
            other = next((one for one in originals if _same_pixels(one.record, image.record)), None)
            if other is None:
                originals.append(image)
                continue
            yield _duplicate(image, other, masks)
            if image.split != other.split:
                leaks.add(image)
    for image, other in _similar_across_splits(images):
        first, record = other.record, image.record
        one_scene = scene_of(first.image) == scene_of(record.image)
        if image not in leaks and not one_scene and _is_similar(first, record):
            detail = (
                f"looks like {first.image} of split {other.split}; keep images of one scene or sequence in one split "
                "(data.group)"
            )
            yield Defect(DefectKind.LEAK, record.image, detail)


def shared_files(earlier: Sequence[Path], later: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Files of `later` with the content of a file of `earlier`, each with that file.

    Only files of equal size are opened, and only those are read as a whole whose start, middle and end agree:
    uncompressed images all have one size.
    """
    sizes = {file.stat().st_size for file in earlier} & {file.stat().st_size for file in later}
    alike: dict[tuple[int, bytes], list[Path]] = {}
    for file in earlier:
        if file.stat().st_size in sizes:
            alike.setdefault(_excerpt(file), []).append(file)
    pairs: list[tuple[Path, Path]] = []
    for file in later:
        some = alike.get(_excerpt(file), []) if file.stat().st_size in sizes else []
        same = (one for one in some if filecmp.cmp(one, file, shallow=False))
        pairs += [(file, one) for one in islice(same, 1)]
    return pairs


def _excerpt(file: Path) -> tuple[int, bytes]:
    """The size, and a digest of the start, the middle and the end."""
    size, digest = file.stat().st_size, hashlib.sha256()
    with file.open("rb") as stream:
        for place in (0, size // 2, max(0, size - EXCERPT_BYTES)):
            stream.seek(place)
            digest.update(stream.read(EXCERPT_BYTES))
    return size, digest.digest()


def _duplicate(image: ListedImage, other: ListedImage, masks: MaskSource) -> Defect:
    first, record = other.record, image.record
    same = f"has the same pixels as {first.image}"
    same_labels = _same_labels(first, record, masks)
    if image.split != other.split:
        masked = "" if same_labels else ", which has another mask"
        detail = f"{same} of split {other.split}{masked}; remove it from one of them"
        return Defect(DefectKind.LEAK, record.image, detail)
    if not same_labels:
        return Defect(DefectKind.CONTRADICTION, record.image, f"{same}, but their masks differ; keep the right one")
    return Defect(DefectKind.DUPLICATE, record.image, f"{same}; keep one of them")


def _similar_across_splits(images: Sequence[ListedImage]) -> Iterator[tuple[ListedImage, ListedImage]]:
    """Images, each with the image of an earlier split whose hash is nearest, if it is near."""
    before: list[ListedImage] = []
    for _, of_split in groupby(images, key=lambda image: image.split):
        mine = [image for image in of_split if image.facts.hash is not None]
        hashes = (np.array([image.facts.hash for image in some], np.uint64) for some in (mine, before))
        yield from ((image, before[at]) for image, at in zip(mine, nearest_hashes(*hashes), strict=True) if at >= 0)
        before += mine


def _same_pixels(first: Record, second: Record) -> bool:
    try:
        if filecmp.cmp(first.image, second.image, shallow=False):
            return True
        one, other = read_masked_image(first.image), read_masked_image(second.image)
        return bool(np.array_equal(one.values, other.values))
    except (DataError, OSError):
        return False


def _is_similar(first: Record, second: Record) -> bool:
    try:
        one, other = read_masked_image(first.image).filled(), read_masked_image(second.image).filled()
        return thumbnail_correlation(one, other) >= MIN_CORRELATION
    except DataError:
        return False


def _same_labels(first: Record, second: Record, masks: MaskSource) -> bool:
    """Whether two masks have the same labels; True if one of them is unreadable, which is reported elsewhere."""
    try:
        return bool(np.array_equal(masks.read(first), masks.read(second)))
    except DataError:
        return True
