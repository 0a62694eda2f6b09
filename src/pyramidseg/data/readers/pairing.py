"""Which mask belongs to which image, in two folders: the relative path without its extension says it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pyramidseg.data.image_files import is_image_name, list_images
from pyramidseg.data.records import Record
from pyramidseg.errors import DataError

MASK_SUFFIXES = ("_mask", "_masks", "_label", "_labels", "_gt", "-mask", "-label")
"""What the names of all masks may end in beside the image's name."""

_SHOWN = 3


def pair_folders(images: Path, masks: Path) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """Pair all images below one folder with all masks below the other.

    Returns:
        The records in the order of the images' paths, and notes.

    Raises:
        DataError: nothing in a folder; an image without a mask, a mask without an image, two files of one name. All of
            them are counted, the first few are named.
    """
    image_files, mask_files = list_images(images), list_images(masks)
    if not image_files:
        raise DataError(f"{images}: no images in this folder; look for another path, or an unusual file format")
    if not mask_files:
        raise DataError(f"{masks}: no masks in this folder, though {images} has {len(image_files)} images")
    image_keys = [_key(file, images) for file in image_files]
    mask_keys = [_key(file, masks) for file in mask_files]
    suffix = _common_suffix(image_keys, mask_keys)
    mask_keys = [key[: len(key) - len(suffix)] for key in mask_keys]
    faults = [
        *_collisions(images, image_keys, image_files),
        *_collisions(masks, mask_keys, mask_files),
        *_partnerless("images have no mask", images, dict(zip(image_keys, image_files, strict=True)), mask_keys),
        *_partnerless("masks have no image", masks, dict(zip(mask_keys, mask_files, strict=True)), image_keys),
    ]
    if faults:
        raise DataError(
            f"{images} and {masks}: {'; '.join(faults)}; an image and its mask need the same name beside the extension"
        )
    by_key = dict(zip(mask_keys, mask_files, strict=True))
    records = tuple(Record(key, file, by_key[key]) for key, file in zip(image_keys, image_files, strict=True))
    return records, ((f"masks carry the suffix {suffix!r} in their names",) if suffix else ())


def child_folder(folder: Path, names: Iterable[str]) -> Path | None:
    """The folder inside `folder` that has one of the names, whatever its case.

    Raises:
        DataError: several have, and more than one of them holds images.
    """
    names = tuple(names)
    found = sorted(path for path in folder.iterdir() if path.name.lower() in names and path.is_dir())
    if len(found) <= 1:
        return found[0] if found else None
    filled = [path for path in found if _holds_images(path)]
    if len(filled) > 1:
        raise DataError(
            f"{folder}: both {filled[0].name} and {filled[1].name} hold images; name the right one in a YAML file "
            "(train: {images: ..., masks: ...})"
        )
    return filled[0] if filled else found[0]


def _holds_images(folder: Path) -> bool:
    return any(is_image_name(path.name) for path in folder.rglob("*"))


def _key(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _common_suffix(image_keys: list[str], mask_keys: list[str]) -> str:
    """The one of `MASK_SUFFIXES` that all masks end in, unless a mask is named like an image as it is."""
    if not set(image_keys).isdisjoint(mask_keys):
        return ""
    return next((suffix for suffix in MASK_SUFFIXES if all(key.endswith(suffix) for key in mask_keys)), "")


def _collisions(folder: Path, keys: list[str], files: list[Path]) -> Iterator[str]:
    first: dict[str, Path] = {}
    pairs = [
        f"{first[key].relative_to(folder)} and {file.relative_to(folder)}"
        for key, file in zip(keys, files, strict=True)
        if first.setdefault(key, file) is not file
    ]
    if pairs:
        yield f"{len(pairs)} files share their name with another, such as {_few(pairs)}"


def _partnerless(what: str, folder: Path, files: dict[str, Path], partners: Iterable[str]) -> Iterator[str]:
    partners = set(partners)
    alone = [str(file.relative_to(folder)) for key, file in files.items() if key not in partners]
    if alone:
        yield f"{len(alone)} of {len(files)} {what}, such as {_few(alone)}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
