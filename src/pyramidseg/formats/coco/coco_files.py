"""Find the COCO JSON file of each split, and the images that it names.

Annotation files are in the dataset's folder, in `annotations`, or in the folder of a split. The split is the name of
that folder, or a word of the file's name: `instances_train2017.json`, `val.json`. A single file of no split is train.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pyramidseg.annotations.polygons import Location
from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.safe_paths import is_file, resolve_inside, short
from pyramidseg.data.records import Record
from pyramidseg.formats.coco.coco_json import CocoJson, parse_coco_json
from pyramidseg.formats.dataset_format import SPLIT_NAMES, UNLABELLED_SPLIT, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.paths import content, leads_elsewhere, only_images_named, subfolders
from pyramidseg.images.image_files import list_images

ANNOTATION_FOLDERS = ("annotations", "annotation")

_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_")
"""Parts of the names of files of COCO and LVIS that hold no masks."""

_COCO_WORDS = {"instances", "coco", "panoptic"}
"""Words that only the names of COCO files contain."""

_MAX_FILES = 50
"""A folder with more JSON files has one for each image, which is another format."""

IMAGE_FOLDERS = ("", "images", "data", "JPEGImages")
"""Image folders, relative to the dataset or the JSON file: COCO, CVAT and Label Studio, FiftyOne, converted VOC."""

_SAMPLED = 64
"""Number of names by which the folder of the images is chosen."""


class AnnotationFiles(NamedTuple):
    """The JSON file of each split; files that could equally be the one of a split are defects."""

    root: Path
    split_names: SplitNames
    of_split: dict[str, Path]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...]


class _Candidate(NamedTuple):
    file: Path
    split: str | None
    damaged: bool


def find_annotation_files(root: Path, splits: SplitNames, *, panoptic: bool) -> AnnotationFiles | None:
    """Find files of objects, or of panoptic segments. Of several of one split, all but the first are defects."""
    candidates = list(_candidates(root, splits, panoptic))
    if all(candidate.damaged for candidate in candidates):
        if not any(_COCO_WORDS & set(words(candidate.file)) for candidate in candidates):
            return None
        candidates = [candidate._replace(damaged=False) for candidate in candidates]  # reading reports each of them
    chosen: dict[str, Path] = {}
    defects: list[Defect] = []
    for split in splits:
        files = [candidate for candidate in candidates if candidate.split == split]
        # A damaged file that is the only one of its split is read, so that its damage is reported.
        usable = [candidate for candidate in files if not candidate.damaged] or files[:1]
        if usable:
            chosen[split], *rivals = _prefer_instances([candidate.file for candidate in usable])
            defects += [_rival(rival, chosen[split]) for rival in rivals]
            detail = "cannot be read as JSON and is where the annotations of a split are; export it again, or remove it"
            damaged = (candidate.file for candidate in files if candidate not in usable)
            defects += [Defect(DefectKind.BAD_ANNOTATION, file, detail) for file in damaged]
    without_split = [candidate.file for candidate in candidates if candidate.split is None and not candidate.damaged]
    if not chosen and without_split and splits == SPLIT_NAMES:
        chosen["train"], *rivals = _prefer_instances(without_split)
        defects += [_rival(rival, chosen["train"]) for rival in rivals]
    used = {*chosen.values(), *(defect.file for defect in defects)}
    unread = [str(candidate.file) for candidate in candidates if candidate.file not in used]
    notes = (f"{len(unread)} annotation files are not read: {', '.join(unread[:3])}",) if unread else ()
    return AnnotationFiles(root, splits, chosen, tuple(defects), notes) if chosen else None


def words(file: Path) -> list[str]:
    """The words of a file's name in lower case: `instances`, `train2017`."""
    return [word for word in re.split(r"[^a-z0-9]+", file.stem.lower()) if word]


def _candidates(root: Path, splits: SplitNames, panoptic: bool) -> Iterator[_Candidate]:
    """COCO files, and files that are too damaged to tell, in the dataset's folder and in those of the splits."""
    places: list[tuple[Path, str | None]] = [(root, None)]
    for folder in subfolders(root):
        places += [(folder, split) for split, names in splits.items() if folder.name.lower() in names]
    for place, split in places:
        for folder in (place, *(path for path in content(place) if path.name.lower() in ANNOTATION_FOLDERS)):
            files = [path for path in content(folder) if path.suffix.lower() == ".json"] if folder.is_dir() else []
            for file in files if len(files) <= _MAX_FILES else ():
                if ("panoptic" in words(file)) != panoptic or any(task in file.name.lower() for task in _OTHER_TASKS):
                    continue
                if (kind := json_kind(file)) in ("coco", "damaged"):
                    yield _Candidate(file, split or _split_in_name(file, splits), kind == "damaged")


def _split_in_name(file: Path, splits: SplitNames) -> str | None:
    """`train` for `instances_train.json` and for `instances_train2017.json`."""
    for split, names in splits.items():
        if any(re.fullmatch(rf"{re.escape(name)}\d*", word) for name in names for word in words(file)):
            return split
    return None


def _prefer_instances(files: list[Path]) -> list[Path]:
    """The files named `instances` before others, and then without those of COCO's other task `stuff`."""
    instances = [file for file in files if "instances" in words(file)]
    ignored = (*instances, *(file for file in files if instances and "stuff" in words(file)))
    return [*instances, *(file for file in files if file not in ignored)]


def _rival(rival: Path, file: Path) -> Defect:
    detail = (
        f"holds annotations of the same split as {file}; keep only one of them, or name all splits in a YAML file by "
        "words that only one of the names has (train: train2017)"
    )
    return Defect(DefectKind.RIVAL_ANNOTATION, rival, detail)


# The images.


@dataclass(frozen=True)
class CocoSplit:
    """A parsed JSON file and the images that were found. Images that cannot be used are defects instead.

    Attributes:
        folder: the file names are relative to it.
        images: by their position in the JSON file, still without masks.
    """

    json: CocoJson
    folder: Path
    images: dict[int, Record]
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
        raise Location(json.path).error("lists no images; export it again")
    names = [entry.file_name for entry in json.images.values()]
    known = {os.path.normpath(image): image for image in list_images(root)}
    folder = _image_folder(json.path, root, names, known, splits[split])
    found: dict[int, Path] = {}
    defects: dict[int, Defect] = {}
    for position, name in enumerate(names):
        if (image := known.get(_below(folder, name))) is not None:
            found[position] = image
            continue
        try:
            path = resolve_inside(name, folder=folder, root=root, where=json.path)
            if not is_file(path):
                raise DefectError(DefectKind.ABSENT, path, f"{json.path} names it, but there is no such file")
            found[position] = path
        except DefectError as error:
            defects[position] = error.defect
    lost = {at: names[at] for at in defects if not found or leads_elsewhere(names[at])}
    others = {other for key, some in splits.items() if key != split for other in some}
    taken = only_images_named(lost, root, used=found.values(), not_in=others) if lost else {}
    if not found and not taken:
        detail = (
            f"none of its {len(names)} images, such as {short(names[0])}, is in the dataset; add them to {root}, or "
            "remove this file if they are not needed"
        )
        raise DefectError(DefectKind.ABSENT, json.path, detail)
    images: dict[int, Record] = {}
    first: dict[str, Path] = {}
    for position, path in sorted((found | taken).items()):
        id = path.relative_to(folder if path.is_relative_to(folder) else root).with_suffix("").as_posix()
        if id in first:
            kind = DefectKind.REPEATED_ID if first[id] == path else DefectKind.SAME_STEM
            defects[position] = Defect(kind, path, f"{json.path} lists {first[id]} too")
        else:
            images[position], first[id] = Record(id, path), path
            defects.pop(position, None)
    notes = [
        f"{len(taken)} names of images in {json.path.name}, such as {short(names[at])}, lead to no file: the only "
        f"image of the same name was taken ({path})"
        for at, path in list(taken.items())[:1]
    ]
    return CocoSplit(json, folder, images, tuple(defects[at] for at in sorted(defects)), tuple(notes))


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
    listed = {record.image for split in splits.values() for record in split.images.values()}
    folders = {path.parent for path in listed}
    places = {split.folder for split in splits.values()}
    unlisted = sorted(
        {path for place in places for path in list_images(place) if path.parent in folders and path not in listed}
    )
    if unlisted:
        yield f"{len(unlisted)} images, such as {unlisted[0]}, are in no annotation file and were left out"
