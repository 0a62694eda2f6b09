"""Ultralytics' description of a dataset, usually called data.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import short
from pyramidseg.base.text_files import read_yaml
from pyramidseg.formats.paths import child_file, content

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DataYaml:
    """Content of the file; names or sources with a defect are empty.

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
    if file is not None:
        with defects.collect():
            described = _read_mapping(file)
    return _parse(file, described, defects) if file is not None and "names" in described else None


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
        raise _defect(file, "a mapping with the keys names, train and val is needed")
    return content


def _parse(file: Path, content: dict[Any, Any], defects: DefectCollector) -> DataYaml:
    if content.get("kpt_shape"):
        raise DataError(f"{file}: describes keypoints (kpt_shape), which are not masks; export segmentation labels")
    names: dict[int, str] = {}
    sources: dict[str, tuple[str, ...]] = {}
    with defects.collect():
        names = _names(file, content)
    with defects.collect():
        sources = {split: _sources(file, split, content[split]) for split in SPLITS if content.get(split)}
    base = content.get("path")
    return DataYaml(file, names, base if isinstance(base, str) else ".", sources)


def _names(file: Path, content: Mapping[Any, Any]) -> dict[int, str]:
    names = content["names"]
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise _defect(file, "names: a list of class names, or a mapping of numbers to names, is needed")
    for number, name in names.items():
        if not isinstance(number, int) or not 0 <= number < 2**16 or not isinstance(name, (str, int, float)):
            raise _defect(file, f"names: the name of a class is text, and its number from 0 to {2**16 - 1}")
    count = content.get("nc", len(names))
    if count != len(names):
        raise _defect(file, f"nc: {short(count)} classes, but there are {len(names)} names; make them agree")
    return {number: str(name).strip() or f"class {number}" for number, name in names.items()}


def _sources(file: Path, split: str, value: object) -> tuple[str, ...]:
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, str) for source in sources):
        raise _defect(file, f"{split}: a folder of images, a list of folders, or a text file is needed")
    return tuple(sources)


def _defect(file: Path, detail: str) -> DefectError:
    return DefectError(DefectKind.BAD_ANNOTATION, file, detail)
