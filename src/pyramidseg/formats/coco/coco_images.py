"""Find the images that COCO files name, and combine both into splits."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.safe_paths import is_file, resolve_inside, short
from pyramidseg.formats.coco.annotation_files import AnnotationFiles, words
from pyramidseg.formats.coco.coco_json import CocoJson, parse_coco_json
from pyramidseg.formats.dataset_format import UNLABELLED_SPLIT, SplitNames
from pyramidseg.formats.paths import leads_elsewhere, only_images_named
from pyramidseg.images.image_files import list_images

IMAGE_FOLDERS = ("", "images", "data", "JPEGImages")
"""Image folders, relative to the dataset or the JSON file: COCO, CVAT and Label Studio, FiftyOne, converted VOC."""

_SAMPLED = 64
"""Number of names by which the folder of the images is chosen."""


@dataclass(frozen=True)
class CocoSplit:
    """A parsed JSON file and the images that were found. Images that cannot be used are defects instead.

    Attributes:
        folder: the file names are relative to it.
        paths: by the image's position in the JSON file.
        ids: of the records, by position.
    """

    json: CocoJson
    folder: Path
    paths: dict[int, Path]
    ids: dict[int, str]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CocoSplits:
    """All splits that can be read, and what is wrong with the others."""

    by_name: dict[str, CocoSplit]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...]

    @property
    def files(self) -> list[CocoJson]:
        return [split.json for split in self.by_name.values()]


def parse_splits(found: AnnotationFiles, *, check: Callable[[CocoJson], object]) -> CocoSplits:
    """Parse the JSON file of each split and find its images. A test split without images or labels is left out.

    Args:
        check: raises a `DefectError` if the file cannot be of this format.
    """
    splits: dict[str, CocoSplit] = {}
    defects, notes = list(found.defects), list(found.notes)
    for name, path in found.of_split.items():
        try:
            json = parse_coco_json(path)
            if name == UNLABELLED_SPLIT and not (json.images and len(json.image_positions)) and not json.defects:
                notes.append(f"the test split ({path}) has no labels and was left out")
                continue
            defects += json.defects
            check(json)
            splits[name] = _find_images(json, found.root, found.split_names, name)
            defects += splits[name].defects
        except DefectError as error:
            if name == UNLABELLED_SPLIT and error.defect.kind is DefectKind.ABSENT:
                notes.append(f"the test split was left out: {error}")
            else:
                defects += error.defects
    return CocoSplits(splits, tuple(defects), (*notes, *_notes(splits)))


def _find_images(json: CocoJson, root: Path, splits: SplitNames, split: str) -> CocoSplit:
    """Find all images of a file: by path, else the only image of the same name in the dataset.

    Raises:
        DefectError: the file lists no images, or none of them is in the dataset.
    """
    if not json.images:
        raise DefectError(DefectKind.BAD_ANNOTATION, json.path, "lists no images; export it again")
    names = [entry.file_name for entry in json.images.values()]
    images = list_images(root)
    known = {os.path.normpath(image): image for image in images}
    folder = _image_folder(json.path, root, names, known, splits[split])
    found: dict[int, Path] = {}
    defects: dict[int, Defect] = {}
    for position, name in enumerate(names):
        if (image := known.get(_below(folder, name))) is not None:
            found[position] = image
            continue
        try:
            path = resolve_inside(name, folder=folder, root=root, where=json.path)
        except DefectError as error:
            defects[position] = error.defect
            continue
        if is_file(path):
            found[position] = path
        else:
            detail = f"{json.path} names it, but there is no such file"
            defects[position] = Defect(DefectKind.ABSENT, path, detail)
    lost = {at: names[at] for at in defects if not found or leads_elsewhere(names[at])}
    others = {other for key, some in splits.items() if key != split for other in some}
    taken = only_images_named(lost, root, used=found.values(), not_in=others) if lost else {}
    if not found and not taken:
        detail = (
            f"none of its {len(names)} images, such as {short(names[0])}, is in the dataset; add them to {root}, or "
            "remove this file if they are not needed"
        )
        raise DefectError(DefectKind.ABSENT, json.path, detail)
    paths: dict[int, Path] = {}
    position_of: dict[str, int] = {}
    for position, path in sorted((found | taken).items()):
        id = path.relative_to(folder if path.is_relative_to(folder) else root).with_suffix("").as_posix()
        if id in position_of:
            other = paths[position_of[id]]
            kind = DefectKind.REPEATED_ID if other == path else DefectKind.SAME_STEM
            defects[position] = Defect(kind, path, f"{json.path} lists {other} too")
        else:
            paths[position], position_of[id] = path, position
            defects.pop(position, None)
    ids = {position: id for id, position in position_of.items()}
    notes = [
        f"{len(taken)} names of images in {json.path.name}, such as {short(names[at])}, lead to no file: the only "
        f"image of the same name was taken ({path})"
        for at, path in list(taken.items())[:1]
    ]
    return CocoSplit(json, folder, paths, ids, tuple(defects[at] for at in sorted(defects)), tuple(notes))


def _image_folder(
    file: Path, root: Path, names: Sequence[str], known: Mapping[str, Path], split_folders: Iterable[str]
) -> Path:
    """The folder that file names are relative to: of the likely ones, the one with most of some images."""
    places = {image.parent for image in known.values()}
    existing = {str(folder).lower(): folder for place in places for folder in (place, *place.parents)}
    parts = dict.fromkeys((*reversed(words(file)), *split_folders))  # the split ends the name: instances_train2017
    below = [*IMAGE_FOLDERS]
    below += [name for part in parts for name in (part, f"images/{part}", f"{part}/images", f"{part}/data")]
    sample = names[:: max(1, len(names) // _SAMPLED)]
    likely = (existing.get(_below(place, name).lower()) for place in (file.parent, root) for name in below)
    counts = {folder: sum(_below(folder, name) in known for name in sample) for folder in likely if folder is not None}
    return max(counts, key=lambda folder: counts[folder], default=root)


def _below(folder: Path, name: str) -> str:
    return os.path.normpath(folder / name.replace("\\", "/"))


def _notes(splits: dict[str, CocoSplit]) -> Iterator[str]:
    for name, split in splits.items():
        json = split.json
        yield from split.notes
        if split.folder != json.path.parent:
            yield f"the {name} images of {json.path.name} are in {split.folder}"
        empty = len(json.images) - len(set(json.image_positions[json.image_positions >= 0].tolist()))
        if empty and not json.panoptic:
            yield f"{empty} of the {len(json.images)} {name} images have no object: they are all background"
    listed = {path for split in splits.values() for path in split.paths.values()}
    folders = {path.parent for path in listed}
    places = {split.folder for split in splits.values()}
    unlisted = sorted(
        {path for place in places for path in list_images(place) if path.parent in folders and path not in listed}
    )
    if unlisted:
        yield f"{len(unlisted)} images, such as {unlisted[0]}, are in no annotation file and were left out"
