"""Ultralytics' description of a dataset, mostly called data.yaml.

path: .                  # folder of the dataset; one outside of the folder of this file is not followed, aloud
train: images/train      # a folder of images, a list of folders, or a text file that lists images; also val and test
names: {0: car, 1: bus}  # or [car, bus]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramidseg.data.defect_kinds import DefectError, Kind
from pyramidseg.data.flaws import Flaws
from pyramidseg.data.readers.folders import child_file, content
from pyramidseg.data.references import short
from pyramidseg.data.text_files import read_yaml
from pyramidseg.errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class YoloFile:
    """What the file says; with a defect in its names or its sources, it says nothing of them.

    Attributes:
        names: by class number.
        base: the folder that `sources` are relative to, as it is written (`.` where it is not).
        sources: of each split the folders or lists of images, as they are written.
    """

    path: Path
    names: Mapping[int, str]
    base: str
    sources: Mapping[str, tuple[str, ...]]


def find_yolo_file(folder: Path, flaws: Flaws) -> YoloFile | None:
    """`data.yaml`, or the only YAML file that names classes as it does; None too where it cannot be read.

    Args:
        flaws: takes what is wrong with it.

    Raises:
        DataError: there are several, or it describes keypoints.
    """
    file = child_file(folder, "data.yaml") or child_file(folder, "data.yml") or _only_yolo_file(folder)
    described: dict[Any, Any] = {}
    if file is not None:
        with flaws.caught():
            described = _read(file)
    return _parsed(file, described, flaws) if file is not None and "names" in described else None


def _only_yolo_file(folder: Path) -> Path | None:
    files = [path for path in content(folder) if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    fitting = [file for file in files if is_yolo_file(file)]
    if len(fitting) > 1:
        raise DataError(f"{fitting[0]}: {fitting[1].name} names classes too; call the right one data.yaml")
    return fitting[0] if fitting else None


def is_yolo_file(file: Path) -> bool:
    """Whether a YAML file names classes and training images as Ultralytics has it."""
    try:
        return {"names", "train"} <= set(_read(file))
    except DataError:
        return False


def _read(file: Path) -> dict[Any, Any]:
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise _flaw(file, "a mapping with the keys names, train and val is needed")
    return content


def _parsed(file: Path, content: dict[Any, Any], flaws: Flaws) -> YoloFile:
    if content.get("kpt_shape"):
        raise DataError(f"{file}: describes keypoints (kpt_shape), which are no masks; export segmentation labels")
    names: dict[int, str] = {}
    sources: dict[str, tuple[str, ...]] = {}
    with flaws.caught():
        names = _names(file, content)
    with flaws.caught():
        sources = {split: _sources(file, split, content[split]) for split in SPLITS if content.get(split)}
    base = content.get("path")
    return YoloFile(file, names, base if isinstance(base, str) else ".", sources)


def _names(file: Path, content: Mapping[Any, Any]) -> dict[int, str]:
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise _flaw(file, "names: a list of class names, or a mapping of numbers to names, is needed")
    for number, name in names.items():
        if not isinstance(number, int) or not 0 <= number < 2**16 or not isinstance(name, (str, int, float)):
            raise _flaw(file, f"names: the name of a class is text, and its number from 0 to {2**16 - 1}")
    count = content.get("nc", len(names))
    if count != len(names):
        raise _flaw(file, f"nc: {short(count)} classes, but there are {len(names)} names; make them agree")
    return {number: str(name).strip() or f"class {number}" for number, name in names.items()}


def _sources(file: Path, split: str, value: object) -> tuple[str, ...]:
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, str) for source in sources):
        raise _flaw(file, f"{split}: a folder of images, a list of folders, or a text file is needed")
    return tuple(sources)


def _flaw(file: Path, detail: str) -> DefectError:
    return DefectError(Kind.BAD_ANNOTATION, file, detail)
