"""Find the COCO JSON file of each split.

Annotation files are in the dataset's folder, in `annotations`, or in the folder of a split. The split is the name of
that folder, or a word of the file's name: `instances_train2017.json`, `val.json`. A single file of no split is train.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.formats.dataset_format import SPLIT_NAMES, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.paths import content, subfolders

ANNOTATION_FOLDERS = ("annotations", "annotation")

_OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_")
"""Parts of the names of files of COCO and LVIS that hold no masks."""

_COCO_WORDS = {"instances", "coco", "panoptic"}
"""Words that only the names of COCO files contain."""

_MAX_FILES = 50
"""A folder with more JSON files has one for each image, which is another format."""


class AnnotationFiles(NamedTuple):
    """The JSON file of each split, and those that are not read or that could equally be the one of a split."""

    root: Path
    split_names: SplitNames
    of_split: dict[str, Path]
    unread: tuple[Path, ...]
    defects: tuple[Defect, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        names = ", ".join(str(path) for path in self.unread[:3])
        return (f"{len(self.unread)} annotation files are not read: {names}",) if self.unread else ()


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
    unread = tuple(candidate.file for candidate in candidates if candidate.file not in used)
    return AnnotationFiles(root, splits, chosen, unread, tuple(defects)) if chosen else None


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
