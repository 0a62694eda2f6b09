"""YOLO's description of a dataset: data.yaml with the class names and the images of each split, or classes.txt.

path: .                  optional: the folder that the next entries are relative to
train: images/train      a folder of images, a list of folders, or a text file of images
val: images/val
names: [car, bus]        or {0: car, 1: bus}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramidseg.annotations.polygons import Location
from pyramidseg.base.defects import DefectCollector
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import short
from pyramidseg.base.text_files import read_text, read_yaml
from pyramidseg.formats.dataset_format import SPLIT_NAMES
from pyramidseg.formats.paths import child_file, content

CLASS_NAMES = "classes.txt"
"""A file of class names, a line each."""


@dataclass(frozen=True)
class DataYaml:
    """Content of data.yaml; names or sources with a defect are empty.

    Attributes:
        names: by class number.
        base: the folder that `sources` are relative to, as written; `.` if not given.
        sources: for each split the folders or lists of images, as written.
    """

    path: Path
    names: Mapping[int, str]
    base: str
    sources: Mapping[str, tuple[str, ...]]


def find_data_yaml(folder: Path, defects: DefectCollector) -> DataYaml | None:
    """Read `data.yaml`, or the only YAML file that names classes; None if there is none or it cannot be read.

    Args:
        defects: collects what is wrong with the file.

    Raises:
        DataError: there are several, or the file describes keypoints.
    """
    file = child_file(folder, "data.yaml") or child_file(folder, "data.yml") or _only_data_yaml(folder)
    described: dict[Any, Any] = {}
    names: dict[int, str] = {}
    sources: dict[str, tuple[str, ...]] = {}
    if file is not None:
        with defects.collect():
            described = _read_mapping(file)
    if file is None or "names" not in described:
        return None
    if described.get("kpt_shape"):
        raise DataError(f"{file}: describes keypoints (kpt_shape), which are not masks; export segmentation labels")
    with defects.collect():
        names = _names(file, described)
    with defects.collect():
        sources = {split: _sources(file, split, described[split]) for split in SPLIT_NAMES if described.get(split)}
    base = described.get("path")
    return DataYaml(file, names, base if isinstance(base, str) else ".", sources)


def is_data_yaml(file: Path) -> bool:
    """Whether a YAML file names classes and training images as Ultralytics' files do."""
    try:
        return {"names", "train"} <= set(_read_mapping(file))
    except DataError:
        return False


def _only_data_yaml(folder: Path) -> Path | None:
    files = [path for path in content(folder) if path.suffix.lower() in (".yaml", ".yml") and path.is_file()]
    fitting = [file for file in files if is_data_yaml(file)]
    if len(fitting) > 1:
        raise DataError(f"{fitting[0]}: {fitting[1].name} names classes too; rename the one to use to data.yaml")
    return fitting[0] if fitting else None


def _read_mapping(file: Path) -> dict[Any, Any]:
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise Location(file).error("a mapping with the keys names, train and val is needed")
    return content


def _names(file: Path, content: Mapping[Any, Any]) -> dict[int, str]:
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise Location(file).error("names: a list of class names, or a mapping of numbers to names, is needed")
    for number, name in names.items():
        if not isinstance(number, int) or not 0 <= number < 2**16 or not isinstance(name, (str, int, float)):
            raise Location(file).error(f"names: the name of a class is text, and its number from 0 to {2**16 - 1}")
    count = content.get("nc", len(names))
    if count != len(names):
        raise Location(file).error(f"nc: {short(count)} classes, but there are {len(names)} names; make them agree")
    return {number: str(name).strip() or f"class {number}" for number, name in names.items()}


def _sources(file: Path, split: str, value: object) -> tuple[str, ...]:
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, str) for source in sources):
        raise Location(file).error(f"{split}: a folder of images, a list of folders, or a text file is needed")
    return tuple(sources)


def names_from_list(folder: Path, defects: DefectCollector) -> dict[int, str]:
    """Names by class number from classes.txt, if there is one."""
    file = child_file(folder, CLASS_NAMES)
    if file is None:
        return {}
    with defects.collect():
        names = [line.strip() for line in read_text(file).rstrip().splitlines()]
        if not any(names):
            raise Location(file).error("names no class; add them, or delete the file")
        if "" in names:
            detail = f"line {names.index('') + 1} is empty, but the line number is the class number; name the class"
            raise Location(file).error(detail)
        return dict(enumerate(names))
    return {}
