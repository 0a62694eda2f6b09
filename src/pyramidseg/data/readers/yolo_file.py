"""Ultralytics' description of a dataset, mostly called data.yaml.

path: .                  # folder of the dataset; one outside of the folder of this file is not followed, aloud
train: images/train      # a folder of images, a list of folders, or a text file that lists images; also val and test
names: {0: car, 1: bus}  # or [car, bus]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramidseg.data.readers.folders import child_file, content
from pyramidseg.data.readers.listing import NearMiss
from pyramidseg.data.text_files import read_yaml
from pyramidseg.errors import DataError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class YoloFile:
    """What the file says.

    Attributes:
        names: by class number.
        base: the folder that `sources` are relative to, as it is written (`.` where it is not).
        sources: of each split the folders or lists of images, as they are written.
    """

    path: Path
    names: Mapping[int, str]
    base: str
    sources: Mapping[str, tuple[str, ...]]


def find_yolo_file(folder: Path) -> YoloFile | None:
    """`data.yaml`, or the only YAML file that names classes as it does.

    Raises:
        NearMiss: it cannot be read.
        DataError: there are several, or it says what cannot be.
    """
    usual = child_file(folder, "data.yaml") or child_file(folder, "data.yml")
    if usual is not None:
        described = _read(usual)
        return _parsed(usual, described) if "names" in described else None
    files = [path for path in content(folder) if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    fitting = [file for file in files if is_yolo_file(file)]
    if len(fitting) > 1:
        raise DataError(f"{fitting[0]}: {fitting[1].name} names classes too; call the right one data.yaml")
    return _parsed(fitting[0], _read(fitting[0])) if fitting else None


def is_yolo_file(file: Path) -> bool:
    """Whether a YAML file names classes and training images as Ultralytics has it."""
    try:
        return {"names", "train"} <= set(_read(file))
    except DataError:
        return False


def _read(file: Path) -> dict[Any, Any]:
    try:
        content = read_yaml(file)
    except DataError as error:
        raise NearMiss(str(error)) from None
    if not isinstance(content, dict):
        raise NearMiss(f"{file}: a mapping with the keys names, train and val is needed")
    return content


def _parsed(file: Path, content: dict[Any, Any]) -> YoloFile:
    if content.get("kpt_shape"):
        raise DataError(f"{file}: describes keypoints (kpt_shape), which are no masks; export segmentation labels")
    names = _names(file, content.get("names"))
    count = content.get("nc", len(names))
    if count != len(names):
        raise DataError(f"{file}: nc: {count} classes, but there are {len(names)} names; make them agree")
    sources = {split: _sources(file, split, content[split]) for split in SPLITS if content.get(split)}
    base = content.get("path")
    return YoloFile(file, names, base if isinstance(base, str) else ".", sources)


def _names(file: Path, names: object) -> dict[int, str]:
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise DataError(f"{file}: names: a list of class names, or a mapping of numbers to names, is needed")
    for number, name in names.items():
        if not isinstance(number, int) or not 0 <= number < 2**16 or not isinstance(name, (str, int, float)):
            raise DataError(f"{file}: names: the name of a class is text, and its number from 0 to {2**16 - 1}")
    return {number: str(name).strip() or f"class {number}" for number, name in names.items()}


def _sources(file: Path, split: str, value: object) -> tuple[str, ...]:
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, str) for source in sources):
        raise DataError(f"{file}: {split}: a folder of images, a list of folders, or a text file is needed")
    return tuple(sources)
