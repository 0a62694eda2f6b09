"""Where COCO files lie, which split each is of, and where its images are.

Annotation files lie in the dataset's folder, in `annotations`, or in the folder of a split. A split is named by the
folder, or by a word in the file's name: `instances_train2017.json`, `val.json`. One file alone, of no split, is train.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import is_file, named_file, short
from pyramidseg.formats.coco.annotations import CocoJson, read_coco_json
from pyramidseg.formats.dataset_format import SPLIT_NAMES, SplitNames
from pyramidseg.formats.detection import json_kind
from pyramidseg.formats.paths import content, subfolders
from pyramidseg.images.open_image import list_images

ANNOTATION_FOLDERS = ("annotations", "annotation")
IMAGE_FOLDERS = ("", "images", "data", "JPEGImages")
"""Below the dataset's folder or that of the file; COCO, CVAT and Label Studio, FiftyOne, those that came from VOC."""

NO_OBJECTS = ("captions_", "person_keypoints_", "image_info_")
"""What stands in the names of those of COCO's and LVIS' files that are not needed here."""

_KNOWN_NAMES = {"instances", "coco", "panoptic"}
"""Words that stand in the names of these files alone."""

_MANY_FILES = 50  # more are one for each image: another format's
_IMAGES_TRIED = 16


class AnnotationFiles(NamedTuple):
    """The COCO file of each split, those that are not read, and those that might as well be the one of a split."""

    of_split: dict[str, Path]
    others: tuple[Path, ...] = ()
    defects: tuple[Defect, ...] = ()

    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        names = ", ".join(str(path) for path in self.others[:3])
        return (f"{len(self.others)} annotation files are not read: {names}",) if self.others else ()


def annotation_files(root: Path, splits: SplitNames, *, panoptic: bool) -> AnnotationFiles:
    """Look for COCO files, of objects or of panoptic segments; of several of one split the first is listed."""
    found: dict[str, list[Path]] = {split: [] for split in splits}
    lone: list[Path] = []
    for file in _candidates(root, panoptic):
        split = _split_of(file, splits)
        (lone if split is None else found[split]).append(file)
    for folder in subfolders(root):
        for split, names in splits.items():
            found[split] += _candidates(folder, panoptic) if folder.name.lower() in names else []
    everything = [*lone, *(file for files in found.values() for file in files)]
    sound = {file for file in everything if json_kind(file) == "coco"}
    if not sound and any(_KNOWN_NAMES & set(_words(file)) for file in everything):
        sound = set(everything)  # all of them damaged
    if not sound:
        return AnnotationFiles({})
    # a damaged file that alone is called so is that of its split, which is not left out in silence
    chosen = {split: [file for file in files if file in sound] or files for split, files in found.items()}
    fitting = {split: _likeliest(files) for split, files in chosen.items() if files}
    lone = [file for file in lone if file in sound]
    if not fitting and lone and splits == SPLIT_NAMES:
        fitting = {"train": _likeliest(lone)}
    named = {split: files[0] for split, files in fitting.items()}
    rivals = {rival: file for file, *others in fitting.values() for rival in others}
    damaged = [file for files in found.values() for file in files if file not in sound and file not in named.values()]
    return AnnotationFiles(
        named,
        tuple(file for file in everything if file not in named.values() and file not in (*rivals, *damaged)),
        (*(_rival(rival, file) for rival, file in rivals.items()), *map(_damaged, damaged)),
    )


def image_folder(file: Path, root: Path, names: Collection[str], split_folders: Iterable[str]) -> Path:
    """The folder that the names of a file's images are relative to: where the most of the first few are.

    Raises:
        DataError: they are nowhere; the folders that were tried are named. Or all of them lead out of the dataset.
    """
    folders = list(_possible_folders(file, root, split_folders))
    sample = list(islice((name for name in names if _leads_inside(name, folders, root, file)), _IMAGES_TRIED))
    if not sample:
        detail = (
            f"all of its {len(names)} images, such as {short(next(iter(names)))}, lead out of the dataset {root}; name "
            f"files relative to {file.parent}, and inside it"
        )
        raise DefectError(DefectKind.OUTSIDE, file, detail)
    counts = [sum(is_there(name, folder, root, file) for name in sample) for folder in folders]
    if not any(counts):
        tried = ", ".join(str(folder) for folder in folders)
        beside = file.parent != root and file.parent.name.lower() not in ANNOTATION_FOLDERS
        usual = file.parent if beside or not _words(file) else root / _words(file)[-1]
        detail = (
            f"its images, such as {short(sample[0])}, are in none of {tried}; put them into {usual}, or take the file "
            "away where they are not wanted"
        )
        raise DefectError(DefectKind.ABSENT, file, detail)
    return folders[counts.index(max(counts))]


def _rival(rival: Path, file: Path) -> Defect:
    detail = (
        f"holds annotations of the same split as {file}; which counts cannot be told: take all but one away, or name "
        "the split by a word that one of them alone has in a YAML file (train: train2017)"
    )
    return Defect(DefectKind.RIVAL_ANNOTATION, rival, detail)


def _damaged(file: Path) -> Defect:
    detail = "cannot be read as JSON, and lies where the annotations of a split do; export it anew, or take it away"
    return Defect(DefectKind.BAD_ANNOTATION, file, detail)


def _words(file: Path) -> list[str]:
    """The words in a file's name, in lower case: `instances`, `train2017`."""
    return [word for word in re.split(r"[^a-z0-9]+", file.stem.lower()) if word]


def _candidates(folder: Path, panoptic: bool) -> list[Path]:
    """COCO files in a folder and in its folder of annotations, and files that are too damaged to tell."""
    found: list[Path] = []
    for place in (folder, *(path for path in content(folder) if path.name.lower() in ANNOTATION_FOLDERS)):
        files = [path for path in content(place) if path.suffix.lower() == ".json"] if place.is_dir() else []
        fitting = [
            path
            for path in files
            if ("panoptic" in _words(path)) == panoptic and not any(word in path.name.lower() for word in NO_OBJECTS)
        ]
        found += (
            [path for path in fitting if json_kind(path) in ("coco", "damaged")] if len(files) <= _MANY_FILES else []
        )
    return found


def _split_of(file: Path, splits: SplitNames) -> str | None:
    """`train` for `train`, and for `train2017`."""
    for split, names in splits.items():
        if any(re.fullmatch(rf"{re.escape(name)}\d*", word) for name in names for word in _words(file)):
            return split
    return None


def _likeliest(files: list[Path]) -> list[Path]:
    """Those called instances, if there are any; else all."""
    return [file for file in files if "instances" in _words(file)] or files


def is_there(name: str, folder: Path, root: Path, file: Path) -> bool:
    """Whether there is a file that `file` names, in a folder."""
    try:
        return is_file(named_file(name, folder=folder, root=root, where=file))
    except DataError:
        return False


def _leads_inside(name: str, folders: Iterable[Path], root: Path, file: Path) -> bool:
    """Whether a name stays in the dataset from one of the folders."""
    for folder in folders:
        with suppress(DataError):
            named_file(name, folder=folder, root=root, where=file)
            return True
    return False


def _whatever_case(place: Path, name: Path) -> Path | None:
    """The folder of this name, or else the first that differs from it in upper and lower case only."""
    if (place / name).is_dir():
        return place / name
    for part in name.parts:
        inner = next((path for path in subfolders(place) if path.name.lower() == part.lower()), None)
        if inner is None:
            return None
        place = inner
    return place


def _possible_folders(file: Path, root: Path, split_folders: Iterable[str]) -> Iterator[Path]:
    """Existing folders, each once, the likeliest first."""
    parts = dict.fromkeys((*reversed(_words(file)), *split_folders))  # the split ends the name: instances_train2017
    below = [Path(name) for name in IMAGE_FOLDERS]
    below += [Path(*pair) for part in parts for pair in ((part,), ("images", part), (part, "images"), (part, "data"))]
    seen: set[Path] = set()
    for place in (file.parent, root):
        for name in below:
            folder = _whatever_case(place, name)
            if folder is not None and folder not in seen:
                seen.add(folder)
                yield folder


# The images that a COCO file names, on the disk.


@dataclass(frozen=True)
class CocoImages:
    """Images by the position that they have in their file; those that cannot be used are defects instead.

    Attributes:
        ids: of the records.
    """

    folder: Path
    paths: dict[int, Path]
    ids: dict[int, str]
    defects: tuple[Defect, ...]


@dataclass(frozen=True)
class CocoSplits:
    """The files of all splits, and their images; one that cannot be used at all is a defect instead, be it the last."""

    files: dict[str, CocoJson]
    images: dict[str, CocoImages]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...]


def read_splits(
    listed: Mapping[str, Path], root: Path, splits: SplitNames, *, check: Callable[[CocoJson], object]
) -> CocoSplits:
    """Read the file of each split and look for its images. A test split without images or labels is left out, aloud.

    Args:
        check: raises where a file is not of the kind that is read.
    """
    files: dict[str, CocoJson] = {}
    images: dict[str, CocoImages] = {}
    defects: list[Defect] = []
    notes: list[str] = []
    for split, path in listed.items():
        try:
            file = read_coco_json(path)
            if split == "test" and not (file.images and len(file.image_numbers)) and not file.flaws.defects:
                notes.append(f"the test split ({path}) has no labels and was left out")
                continue
            defects += file.flaws.defects
            check(file)
            images[split] = find_images(file, root, splits[split])
        except DefectError as error:
            if split == "test" and error.defect.kind is DefectKind.ABSENT:
                notes.append(f"the test split was left out: {error}")
            else:
                defects += error.defects
        else:
            files[split] = file
            defects += images[split].defects
    return CocoSplits(files, images, tuple(defects), tuple(notes))


def find_images(file: CocoJson, root: Path, split_folders: Iterable[str]) -> CocoImages:
    """Look for all images of a file.

    Raises:
        DataError: there is none.
    """
    if not file.images:
        raise DefectError(DefectKind.BAD_ANNOTATION, file.path, "lists no images; export it anew")
    names = [entry.file_name for entry in file.images.values()]
    folder = image_folder(file.path, root, names, split_folders)
    known = set(list_images(folder))
    paths: dict[int, Path] = {}
    position_by_id: dict[str, int] = {}
    defects: list[Defect] = []
    for position, name in enumerate(names):
        try:
            path = named_file(name, folder=folder, root=root, where=file.path)
        except DefectError as error:
            defects.append(error.defect)
            continue
        id = path.relative_to(folder if path.is_relative_to(folder) else root).with_suffix("").as_posix()
        if path not in known and not is_file(path):
            defects.append(Defect(DefectKind.ABSENT, path, f"{file.path} names it, and there is no such file"))
        elif id in position_by_id:
            other = paths[position_by_id[id]]
            kind = DefectKind.REPEATED_ID if other == path else DefectKind.SAME_STEM
            defects.append(Defect(kind, path, f"{file.path} lists {other} too"))
        else:
            paths[position], position_by_id[id] = path, position
    return CocoImages(folder, paths, {position: id for id, position in position_by_id.items()}, tuple(defects))


def image_notes(files: Mapping[str, CocoJson], found: Mapping[str, CocoImages]) -> Iterator[str]:
    """What was found and what was not, in words; both by split."""
    for split, file in files.items():
        if found[split].folder != file.path.parent:
            yield f"the {split} images of {file.path.name} are in {found[split].folder}"
        empty = len(file.images) - len(set(file.image_numbers[file.image_numbers >= 0].tolist()))
        if empty and not file.panoptic:
            yield f"{empty} of the {len(file.images)} {split} images have no object: they are all background"
    others = _unlisted(found.values())
    if others:
        yield f"{len(others)} images, such as {others[0]}, are in no annotation file and were left out"


def _unlisted(found: Iterable[CocoImages]) -> list[Path]:
    """Images that lie beside listed ones and that no file lists."""
    found = list(found)
    listed = {path for images in found for path in images.paths.values()}
    beside = {path.parent for path in listed}
    folders = {images.folder for images in found}
    return sorted(
        {path for folder in folders for path in list_images(folder) if path.parent in beside and path not in listed}
    )
