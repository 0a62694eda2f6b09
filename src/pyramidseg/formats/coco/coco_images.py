"""Find the images that COCO files name, and combine both into splits."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import is_file, resolve_inside, short
from pyramidseg.formats.coco.annotation_files import ANNOTATION_FOLDERS, AnnotationFiles, words
from pyramidseg.formats.coco.coco_json import CocoJson, parse_coco_json
from pyramidseg.formats.dataset_format import UNLABELLED_SPLIT, SplitNames
from pyramidseg.formats.foreign_names import leads_elsewhere, only_images_named
from pyramidseg.formats.paths import subfolders
from pyramidseg.images.image_files import list_images

IMAGE_FOLDERS = ("", "images", "data", "JPEGImages")
"""Image folders, relative to the dataset or the JSON file: COCO, CVAT and Label Studio, FiftyOne, converted VOC."""

_SAMPLED = 16
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


def resolve(name: str, folder: Path, root: Path, file: Path) -> Path | None:
    """The path that a name in a JSON file means; None if it leads out of the dataset."""
    try:
        return resolve_inside(name, folder=folder, root=root, where=file)
    except DataError:
        return None


def _find_images(json: CocoJson, root: Path, splits: SplitNames, split: str) -> CocoSplit:
    """Find all images of a file: by path, else the only image of the same name in the dataset.

    Raises:
        DefectError: the file lists no images, or none of them exists.
    """
    if not json.images:
        raise DefectError(DefectKind.BAD_ANNOTATION, json.path, "lists no images; export it again")
    names = [entry.file_name for entry in json.images.values()]
    unplaced: DefectError | None = None
    try:
        folder = _image_folder(json.path, root, names, splits[split])
    except DefectError as error:
        folder, unplaced = root, error
    known = set(list_images(folder))
    found: dict[int, Path] = {}
    defects: dict[int, Defect] = {}
    for position, name in enumerate(names):
        try:
            path = resolve_inside(name, folder=folder, root=root, where=json.path)
        except DefectError as error:
            defects[position] = error.defect
            continue
        if path in known or is_file(path):
            found[position] = path
        else:
            defects[position] = Defect(DefectKind.ABSENT, path, f"{json.path} names it, but there is no such file")
    lost = {at: names[at] for at in defects if not found or leads_elsewhere(names[at])}
    others = {other for key, some in splits.items() if key != split for other in some}
    taken = only_images_named(lost, root, used=found.values(), not_in=others) if lost else {}
    if unplaced and not taken:
        raise unplaced
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


def _image_folder(file: Path, root: Path, names: Collection[str], split_folders: Collection[str]) -> Path:
    """The folder that file names are relative to: the one that contains most of the first few.

    Raises:
        DefectError: no folder contains any, or all names lead out of the dataset.
    """
    folders = list(_possible_folders(file, root, split_folders))
    inside = (name for name in names if any(resolve(name, folder, root, file) for folder in folders))
    sample = list(islice(inside, _SAMPLED))
    if not sample:
        detail = (
            f"all of its {len(names)} images, such as {short(next(iter(names)))}, lead out of the dataset {root}; name "
            f"files relative to {file.parent}, and inside it"
        )
        raise DefectError(DefectKind.OUTSIDE, file, detail)
    counts = [sum(_exists(resolve(name, folder, root, file)) for name in sample) for folder in folders]
    if any(counts):
        return folders[counts.index(max(counts))]
    in_subfolder = file.parent != root and file.parent.name.lower() not in ANNOTATION_FOLDERS
    of_split = [word for word in words(file) if word.rstrip("0123456789") in split_folders]
    usual = file.parent if in_subfolder else root / (of_split[-1] if of_split else "images")
    detail = (
        f"its images, such as {short(sample[0])}, are in none of {', '.join(map(str, folders))}; put them into "
        f"{usual}, or remove this file if they are not needed"
    )
    raise DefectError(DefectKind.ABSENT, file, detail)


def _exists(path: Path | None) -> bool:
    return path is not None and is_file(path)


def _possible_folders(file: Path, root: Path, split_folders: Iterable[str]) -> Iterator[Path]:
    """Existing folders, each once, the likeliest first."""
    parts = dict.fromkeys((*reversed(words(file)), *split_folders))  # the split ends the name: instances_train2017
    below = [Path(name) for name in IMAGE_FOLDERS]
    below += [Path(*pair) for part in parts for pair in ((part,), ("images", part), (part, "images"), (part, "data"))]
    folders = (_ignoring_case(place, name) for place in (file.parent, root) for name in below)
    yield from dict.fromkeys(folder for folder in folders if folder is not None)


def _ignoring_case(place: Path, name: Path) -> Path | None:
    """The folder of this name, or else the first whose name differs only in case."""
    if (place / name).is_dir():
        return place / name
    for part in name.parts:
        inner = next((path for path in subfolders(place) if path.name.lower() == part.lower()), None)
        if inner is None:
            return None
        place = inner
    return place


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
