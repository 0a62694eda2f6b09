"""Find the images of each split of a YOLO dataset: as data.yaml says, or by the names of folders."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import is_file, resolve_inside, short
from pyramidseg.base.text_files import read_text
from pyramidseg.formats.dataset_format import SPLIT_NAMES, UNLABELLED_SPLIT, SplitNames
from pyramidseg.formats.paths import child_folder
from pyramidseg.formats.yolo.data_yaml import DataYaml
from pyramidseg.images.image_files import list_files, list_images

IMAGES, LABELS, CLASS_NAMES = "images", "labels", "classes.txt"

_NOT_LABELS = (CLASS_NAMES, "notes.txt", "readme.txt")
"""Text files, in lower case, that may be among labels."""

_MAX_LIST_BYTES = 2**28


@dataclass(frozen=True)
class ImageSource:
    """A folder of images, or a list of images.

    Attributes:
        folder: ids are relative to it.
        labels: all text files in the folder of the labels; for a list, those of its images.
    """

    folder: Path
    images: tuple[Path, ...]
    labels: tuple[Path, ...]

    @classmethod
    def of_folder(cls, place: Path, root: Path) -> "ImageSource":
        texts = list_files(label_path(place / "any", root).parent, (".txt",))
        return cls(
            place, tuple(list_images(place)), tuple(text for text in texts if text.name.lower() not in _NOT_LABELS)
        )

    @classmethod
    def of_list(cls, images: Sequence[Path], root: Path) -> "ImageSource":
        return cls(root, tuple(images), tuple(label for image in images if (label := _label_of(image, root))))


Sources = dict[str, list[ImageSource]]


def label_path(image: Path, root: Path) -> Path:
    """The image's path with the last folder `images` replaced by `labels`; next to the image if there is none."""
    parts = list(image.relative_to(root).parts)
    if IMAGES in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index(IMAGES)] = LABELS
    return root.joinpath(*parts).with_suffix(".txt")


def find_sources(
    folder: Path, splits: SplitNames, file: DataYaml | None, defects: DefectCollector
) -> tuple[Sources, tuple[str, ...]]:
    """The images of each split, and notes."""
    if file is None or not file.sources or splits != SPLIT_NAMES:
        return _by_folder_names(folder, splits), ()
    found: Sources = {}
    base = _base(folder, file)
    notes: tuple[str, ...] = () if base else (_not_followed(folder, file),)
    incomplete: list[str] = []
    for split, entries in file.sources.items():
        places = [_place(entry, base or folder, folder, file.path) for entry in entries]
        if split == UNLABELLED_SPLIT and None in places:
            notes += (f"{file.path.name} names test images that are not there",)
            continue
        found[split] = []
        for place, entry in zip(places, entries, strict=True):
            with defects.collect():
                found[split].append(_source(place, entry, folder, file, defects))
        if len(found[split]) < len(places) - places.count(None):
            incomplete.append(split)
    if incomplete and (unlisted := _unlisted(folder, found.values())):
        found[incomplete[0]].append(unlisted)
        notes += (f"{len(unlisted.images)} images are in no list and are inspected as {incomplete[0]}",)
    return found, notes


def _by_folder_names(folder: Path, splits: SplitNames) -> Sources:
    """`{split}/images`, `images/{split}`, or `images`."""
    images = child_folder(folder, [IMAGES])
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    above = {split: child_folder(path, [IMAGES]) for split, path in inside.items() if path}
    below = {split: child_folder(images, names) for split, names in splits.items()} if images else {}
    places = {split: place for split, place in (*above.items(), *below.items()) if place}
    if not places and images and splits == SPLIT_NAMES:
        places = {"train": images}
    return {split: [ImageSource.of_folder(place, folder)] for split, place in places.items()}


def _base(folder: Path, file: DataYaml) -> Path | None:
    """The folder that `path` in data.yaml means; None if it does not exist or is outside of the dataset."""
    try:
        place = (folder / file.base.replace("\\", "/")).resolve()
        inside = Path(os.path.relpath(place, folder.resolve()))
        return folder / inside if ".." not in inside.parts and place.is_dir() else None
    except (OSError, ValueError):  # not a name for this file system
        return None


def _not_followed(folder: Path, file: DataYaml) -> str:
    return f"path: {file.base} in {file.path.name} is not a folder inside {folder} and was not followed"


def _place(entry: str, base: Path, folder: Path, file: Path) -> Path | None:
    """The path that an entry of data.yaml means, inside the dataset.

    Roboflow writes `../train/images` for `train/images`, and Ultralytics reads it so.
    """
    written = entry.replace("\\", "/")
    for place, name in ((base, written), (base, written.removeprefix("../")), (folder, written)):
        with suppress(DataError):
            found = resolve_inside(name, folder=place, root=folder, where=file)
            if found.exists():
                return found
    return None


def _source(place: Path | None, entry: str, folder: Path, file: DataYaml, defects: DefectCollector) -> ImageSource:
    if place is None:
        inside = entry.replace("\\", "/").removeprefix("../")
        resolve_inside(inside, folder=folder, root=folder, where=file.path)  # raises if it leads out of the dataset
        ignored = "" if _base(folder, file) else f" ({_not_followed(folder, file)})"
        raise DefectError(
            DefectKind.ABSENT,
            file.path,
            f"{entry!r} does not exist; add it, remove its split, or name folders relative to {folder}{ignored}",
        )
    if place.is_dir():
        return ImageSource.of_folder(place, folder)
    lines = Counter(line.strip() for line in read_text(place, most=_MAX_LIST_BYTES).splitlines() if line.strip())
    if not lines:
        raise DefectError(DefectKind.EMPTY, place, "names no image; fill it, or delete it")
    if repeated := [line for line, count in lines.items() if count > 1]:
        detail = f"names {len(repeated)} images more than once, such as {short(repeated[0])}; name each once"
        defects.add(Defect(DefectKind.REPEATED_ID, place, detail))
    images: list[Path] = []
    unusable = DefectCollector()
    for line in lines:
        with unusable.collect():
            images.append(_listed_image(line, place, folder))
    if not images:
        unusable.raise_if_any()
    defects.add(*unusable.defects)
    return ImageSource.of_list(images, folder)


def _listed_image(line: str, file: Path, root: Path) -> Path:
    """The image that a line of a list means: relative to the list if it begins with `./`, else to the dataset.

    The other folder is used if the image exists only there. CVAT writes a folder `data` that is not in its archive.
    """
    bare = line.removeprefix("data/")
    folders = (file.parent, root) if line.startswith(("./", ".\\")) else (root, file.parent)
    for folder in folders:
        for name in (line, bare):
            with suppress(DataError):
                if is_file(image := resolve_inside(name, folder=folder, root=root, where=file)):
                    return image
    return resolve_inside(bare, folder=folders[0], root=root, where=file)


def _label_of(image: Path, root: Path) -> Path | None:
    label = label_path(image, root)
    return next(filter(is_file, (label, label.with_suffix(".TXT"))), None)


def _unlisted(folder: Path, found: Iterable[Sequence[ImageSource]]) -> ImageSource | None:
    """The labelled images of no split, if a list could not be read or names none."""
    listed = {os.path.realpath(image) for parts in found for part in parts for image in part.images}
    others = (image for image in list_images(folder) if os.path.realpath(image) not in listed)
    images = [image for image in others if _label_of(image, folder)]
    return ImageSource.of_list(images, folder) if images else None
