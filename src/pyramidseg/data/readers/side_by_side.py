"""Masks beside their images in one folder: told apart by a suffix, or by the extension."""

from collections import Counter
from pathlib import Path

from pyramidseg.data.image_files import list_images
from pyramidseg.data.readers.listing import NearMiss
from pyramidseg.data.readers.pairing import IMAGE_SUFFIXES, MASK_SUFFIXES, Pairs, Side, key_of, pair, pair_by_suffix

LOSSY = (".jpg", ".jpeg")
"""Extensions, in lower case, that images have and exact masks cannot."""


def pair_one_folder(folder: Path) -> Pairs | None:
    """Pair the images in and below a folder with the masks beside them, if that is what they are.

    Raises:
        NearMiss: files go in pairs, and which of two is the mask cannot be told.
    """
    files = list_images(folder)
    return _by_suffix(folder, files) or _by_extension(folder, files)


def _by_suffix(folder: Path, files: list[Path]) -> Pairs | None:
    """`a.jpg` and `a_mask.png`: most files that end in the suffix have an image."""
    fitting: dict[str, tuple[Side, Side]] = {}
    for suffix in MASK_SUFFIXES:
        marked = {file for file in files if file.stem.lower().endswith(suffix.lower())}
        if not marked:
            continue
        images = Side.of(folder, (file for file in files if file not in marked))
        masks = Side.of(folder, (file for file in files if file in marked))
        met = _plain(images.keys) & set(masks.without(suffix).keys)
        if 2 * len(met) >= len(marked):
            fitting[suffix] = images, masks
    if len(fitting) > 1:
        raise NearMiss(f"{folder}: masks could be the files ending in {' or '.join(fitting)}; take the others out")
    return next((pair_by_suffix(images, masks) for images, masks in fitting.values()), None)


def _plain(keys: tuple[str, ...]) -> set[str]:
    """Keys of images as they are and without the suffixes that images may have."""
    return {*keys, *(key.removesuffix(suffix) for key in keys for suffix in IMAGE_SUFFIXES)}


def _by_extension(folder: Path, files: list[Path]) -> Pairs | None:
    """`a.jpg` and `a.png`: the JPEG is the image, as it cannot be an exact mask."""
    counts = Counter(key_of(file, folder) for file in files)
    doubled = [file for file in files if counts[key_of(file, folder)] == 2]
    if not files or 2 * len(doubled) < len(files):
        return None
    images = Side.of(folder, (file for file in files if file.suffix.lower() in LOSSY))
    masks = Side.of(folder, (file for file in files if file.suffix.lower() not in LOSSY))
    if len(set(images.keys) & set(masks.keys)) < len(doubled) // 2:
        kinds = " and ".join(sorted({file.suffix.lower() for file in doubled}))
        raise NearMiss(
            f"{folder}: files go in pairs of {kinds}, and which of two is the mask cannot be told; put the masks into "
            "a folder masks beside a folder images"
        )
    return pair(images, masks)
