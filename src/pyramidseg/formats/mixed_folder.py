"""One folder with images and their masks: told apart by a suffix of the masks' names, or by the extension."""

from collections import Counter
from pathlib import Path

from pyramidseg.formats.dataset_format import PartialMatch
from pyramidseg.formats.pairing import IMAGE_SUFFIXES, MASK_SUFFIXES, MatchedFiles, Side, key_of, pair, pair_by_suffix
from pyramidseg.images.image_files import list_images

LOSSY_EXTENSIONS = (".jpg", ".jpeg")
"""Extensions, in lower case, of images that cannot be exact masks."""


def pair_mixed_folder(folder: Path) -> MatchedFiles | None:
    """Pair the images in and below a folder with the masks next to them; None if there are no such pairs.

    Raises:
        PartialMatch: files come in pairs, but either file could be the mask.
    """
    files = list_images(folder)
    return _pair_by_suffix(folder, files) or _pair_by_extension(folder, files)


def _pair_by_suffix(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a_mask.png`, if most files that end in the suffix have an image."""
    fitting: dict[str, tuple[Side, Side]] = {}
    for suffix in MASK_SUFFIXES:
        with_suffix = {file for file in files if file.stem.lower().endswith(suffix.lower())}
        if not with_suffix:
            continue
        images = Side.of(folder, (file for file in files if file not in with_suffix))
        masks = Side.of(folder, (file for file in files if file in with_suffix))
        image_keys = {*images.keys, *(key.removesuffix(end) for key in images.keys for end in IMAGE_SUFFIXES)}
        if 2 * len(image_keys & set(masks.without(suffix).keys)) >= len(with_suffix):
            fitting[suffix] = images, masks
    if len(fitting) > 1:
        raise PartialMatch(
            f"{folder}: the masks could be the files ending in {' or in '.join(fitting)}; move the others away"
        )
    return next((pair_by_suffix(images, masks) for images, masks in fitting.values()), None)


def _pair_by_extension(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a.png`: the JPEG is the image, as it cannot be an exact mask."""
    counts = Counter(key_of(file, folder) for file in files)
    paired = [file for file in files if counts[key_of(file, folder)] == 2]
    if not files or 2 * len(paired) < len(files):
        return None
    images = Side.of(folder, (file for file in files if file.suffix.lower() in LOSSY_EXTENSIONS))
    masks = Side.of(folder, (file for file in files if file.suffix.lower() not in LOSSY_EXTENSIONS))
    if len(set(images.keys) & set(masks.keys)) < len(paired) // 2:
        kinds = " and ".join(sorted({file.suffix.lower() for file in paired}))
        raise PartialMatch(
            f"{folder}: files come in pairs of {kinds}, and either could be the mask; move the masks into a folder "
            "masks next to a folder images"
        )
    return pair(images, masks)
