"""What a user states about a dataset: its YAML file, and settings, which override it."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.config import DataConfig, LabelConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.overrides import load_config, parse_override
from pyramidseg.base.remote_files import dataset_copy
from pyramidseg.base.safe_paths import resolve_inside, short
from pyramidseg.formats.dataset_yaml import (
    ClassEntry,
    DatasetFile,
    SingleDataset,
    SourceEntry,
    SplitEntry,
    read_dataset_file,
)
from pyramidseg.formats.yaml_proposal import DATASET_YAML, dataset_file
from pyramidseg.formats.yolo.yolo_description import is_data_yaml

# The settings that decide how a dataset is read; those without effect are refused.

READING = tuple(f"data.{name}" for name in ("format", "classes", *LabelConfig.model_fields))
"""Settings that `open_dataset` uses."""

OF_RECORDS = ("data.bands", "data.val_share", "data.group")
"""Settings that it uses for a dataset made in Python."""


def reading_config(settings: Sequence[str], *, augmented: bool = False) -> DataConfig:
    """Parse settings `data.key=value` of a command that reads a dataset without training.

    Args:
        augmented: whether the settings of augmentation are used, too.

    Raises:
        ConfigError: a setting that does not exist, a value that is not allowed, or a setting of anything else.
    """
    given = dict(parse_override(text) for text in settings)
    config = load_config(overrides=given)
    allowed = (*READING, *(f"data.{name}" for name in AugmentationConfig.model_fields if augmented))
    for name, value in given.items():
        if name not in allowed:
            raise ConfigError(
                f"{name}={value}: has no effect here, where data is read and nothing is trained; leave it out "
                f"(known: {', '.join(allowed)})"
            )
    return config.data


def refuse_unused(data: DataConfig, source: str) -> None:
    """Refuse settings that have no effect on a dataset made in Python.

    Raises:
        ConfigError: one of them is not at its default.
    """
    for name in READING:
        key = name.removeprefix("data.")
        value = getattr(data, key)
        if name not in OF_RECORDS and value != DataConfig.model_fields[key].default:
            raise ConfigError(
                f"{source}: {name}={value}: has no effect on a dataset made in Python, which defines classes and masks "
                f"itself; leave it out (allowed: {', '.join(OF_RECORDS)})"
            )


@dataclass(frozen=True)
class Statements:
    """Statements of the user about a dataset, in a YAML file or in settings.

    Attributes:
        named: the folder or YAML file that the user named.
        file: the YAML file, if there is one.
        root: the folder of the dataset.
        sources: datasets that are joined, by name; the other fields but `classes` and `config` are theirs then.
    """

    named: Path
    file: Path | None
    root: Path
    format: str | None
    splits: Mapping[str, SplitEntry]
    classes: tuple[ClassEntry, ...] | None
    config: LabelConfig
    sources: Mapping[str, SourceEntry] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        """What messages name: the YAML file if there is one, otherwise the folder."""
        return self.file or self.named

    def error(self, detail: str) -> ConfigError:
        """The error of a statement that cannot be used."""
        return ConfigError(f"{self.source}: {detail}")


def read_statements(
    source: str | Path | Sequence[str | Path], data: DataConfig, own: Mapping[str, Any] | None = None
) -> Statements:
    """Read the YAML file, if there is one; settings override it, and the ignored values of both apply.

    Args:
        source: a folder, a YAML file, `hf://datasets/OWNER/NAME[@REVISION]`, or several of them, which are joined.
        own: values of a `SingleDataset` that override those of the file.

    Raises:
        DataError: the source or the folder of its data does not exist.
        ConfigError: as `read_dataset_file`.
    """
    if not source or (not isinstance(source, (str, Path)) and "" in source):
        raise DataError(f"{source!r}: names no dataset; give a folder or a YAML file (. is the current folder)")
    if not isinstance(source, (str, Path)):
        entries = _by_name([SourceEntry(path=str(path)) for path in source])
        classes = tuple(ClassEntry(name=name) for name in data.classes) if data.classes else None
        return Statements(Path(" + ".join(entries)), None, Path(), None, {}, classes, data, entries)
    source = dataset_copy(source)
    if not source.exists():
        kinds = "a folder or a YAML file, or on the Hugging Face hub, named hf://datasets/OWNER/NAME"
        raise DataError(f"{source}: no such file or folder; a dataset is {kinds}")
    if source.is_file() and source.suffix.lower() not in (".yaml", ".yml"):
        raise DataError(f"{source}: is not a dataset; a dataset is a folder or a YAML file (.yaml, .yml)")
    file = dataset_file(source) if dataset_file(source).is_file() else None
    content, root = DatasetFile(), source
    if file is not None:
        content = DatasetFile(format="yolo") if is_data_yaml(file) else read_dataset_file(file)
        root = file.parent / content.path
        if file != source:
            _refuse_outside(content, file)
    content = content.model_copy(update=dict(own or {}))
    if not root.is_dir():
        raise DataError(f"{file}: path: folder {root} does not exist; path is relative to the file")
    given = {name: getattr(data, name) for name in LabelConfig.model_fields if name in data.model_fields_set}
    settings = {name: getattr(content, name) for name in LabelConfig.model_fields} | given
    settings["ignore"] = tuple(dict.fromkeys((*data.ignore, *content.ignore)))
    return Statements(
        named=source,
        file=file,
        root=root,
        format=data.format or content.format,
        splits=content.splits,
        classes=tuple(ClassEntry(name=name) for name in data.classes) if data.classes else content.classes,
        config=LabelConfig(**settings),
        sources=_by_name(content.sources, root),
    )


def source_statements(stated: Statements, data: DataConfig) -> list[Statements]:
    """What is stated about each of the datasets that are joined; settings apply to all of them.

    Raises:
        DataError, ConfigError: as `read_statements`; or one is joined itself.
    """
    of_each, found = data.model_copy(update={"classes": None}), []
    for entry in stated.sources.values():
        own = {key: getattr(entry, key) for key in entry.model_fields_set & {*SingleDataset.model_fields} - {"path"}}
        found.append(read_statements(stated.root / entry.path, of_each, own))
        if found[-1].sources:
            raise stated.error(f"{entry.path} has sources itself; name those here in its place")
    return found


def _by_name(entries: Sequence[SourceEntry], root: Path = Path()) -> dict[str, SourceEntry]:
    """Sources by name: as given, else of their folder or file; numbered where several have the same."""
    named: dict[str, SourceEntry] = {}
    for entry in entries:
        path = Path(os.path.abspath(root / entry.path))  # `..` has no name; a link keeps its own
        folder = path.parent if path.name == DATASET_YAML else path
        base = entry.name or re.sub(r"^\W|[^\w .-]", "_", folder.name if folder.is_dir() else folder.stem) or "data"
        named[next(it for it in (base, *(f"{base}-{n}" for n in range(2, 999))) if it not in named)] = entry
    return named


def _refuse_outside(content: DatasetFile, file: Path) -> None:
    """Refuse a file that came with a folder and names files outside of it; one that the user names may do so.

    Raises:
        DataError: names the entry.
    """
    folders = [
        (f"{split}.{key}", name)
        for split, entry in content.splits.items()
        for key, name in (("images", entry.images), ("masks", entry.masks))
    ]
    folders += [(f"sources.{index}.path", entry.path) for index, entry in enumerate(content.sources)]
    for key, name in [("path", "."), *folders]:
        try:
            resolve_inside(str(Path(content.path, name or ".")), folder=file.parent, root=file.parent, where=file)
        except DefectError:
            shown = short(content.path if key == "path" else name)
            detail = f"{key}: {shown} is outside of {file.parent}; if it is meant, give the file itself: {file}"
            raise DefectError(DefectKind.OUTSIDE, file, detail) from None
