"""A dataset described by a YAML file.

path: data               # folder of the dataset, relative to this file; default: the file's own folder
format: paired           # a key of FORMATS; default: detected
train: train             # a folder name of the format's splits, or {images: folder, masks: folder} below path
val: {images: b/images, masks: b/masks}
classes: [sky, road]     # names by id; or [{name: sky, color: [128, 128, 128], value: 0}, ...]; or {sky: 0, road: 7};
                         # or merged: [{name: vehicle, from: [car, bus, 7, "#40c000"]}, ...]
ignore: [255, 11, void]  # values, colours or names; "*" is everything that is not named, nodata is NaN and the
                         # masks' own nodata value if it cannot be a class index
binary: true             # masks of 0 (background) and 255 (foreground)
mask_name: "{stem}_seg"  # name of a mask, where {stem} is the name of its image
val_share: 0.2           # share of train that becomes val if there is no val split
                         # and the other settings of LabelConfig: threshold, inverted, tolerance, resize_masks, group,
                         # bands, class_property, vector_crs

sources:                 # several datasets, joined by the names of their classes; each may have the keys above
- streets                # or {path: streets, name: a, rename: {asphalt: road}, share: 0.5, complete: true}
                         # next to sources only path (of theirs) and classes (names and colours of the whole) are stated

RUN/dataset.yaml is such a file: it opens the dataset of a run as the run did.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.config import DataConfig, LabelConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError, nearest
from pyramidseg.base.overrides import explain, load_config, parse_override
from pyramidseg.base.safe_paths import resolve_inside, short
from pyramidseg.base.setting_types import MaskReference, Number, Section
from pyramidseg.base.text_files import read_yaml
from pyramidseg.formats.yaml_proposal import DATASET_YAML, dataset_file
from pyramidseg.formats.yolo_description import is_data_yaml

_HUB_NAME = re.compile(r"(?:hf:/+datasets/|https:/+huggingface\.co/datasets/)?([\w.-]+/([\w.-]+))")

# The settings that decide how a dataset is read; those without effect are refused.

READING = tuple(f"data.{name}" for name in ("format", "classes", *LabelConfig.model_fields))
"""Settings that `open_dataset` uses."""

OF_AUGMENTATION = tuple(f"data.{name}" for name in AugmentationConfig.model_fields)

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
    allowed = (*READING, *(OF_AUGMENTATION if augmented else ()))
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


Byte = Annotated[int, Field(ge=0, le=255)]
MaskValue = Annotated[int, Field(ge=0, le=65535)]


class ClassEntry(Section):
    """One class; its id is its position in the list.

    Attributes:
        color: its colour in figures, and in masks of colours.
        value: its value in the masks.
        merged: several values, colours or names of the format; the key in the file is `from`.
    """

    model_config = ConfigDict(validate_by_name=True)

    name: str
    color: tuple[Byte, Byte, Byte] | None = None
    value: MaskValue | None = None
    merged: tuple[MaskReference, ...] = Field(default=(), alias="from")

    @field_validator("merged", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, (int, str)) else value

    @model_validator(mode="after")
    def _one_origin(self) -> "ClassEntry":
        if self.value is not None and self.merged:
            raise ValueError(f"class {self.name!r} has both value and from: give one of them")
        return self


class SplitEntry(Section):
    """The place of a split: the name of its folder in the format, or two folders below `path`."""

    folder: str | None = None
    images: str | None = None
    masks: str | None = None

    @model_validator(mode="after")
    def _one_or_both(self) -> "SplitEntry":
        if (self.folder is None) != (self.images is not None and self.masks is not None):
            raise ValueError("give the name of a folder, or both images and masks")
        return self


class SingleDataset(LabelConfig):
    """What describes one dataset; everything that is not given is detected."""

    path: str = "."
    format: str | None = None
    train: SplitEntry | None = None
    val: SplitEntry | None = None
    test: SplitEntry | None = None
    classes: tuple[ClassEntry, ...] | None = None

    @field_validator("train", "val", "test", mode="before")
    @classmethod
    def _a_name_is_a_folder(cls, value: object) -> object:
        return {"folder": value} if isinstance(value, str) else value

    @field_validator("classes", mode="before")
    @classmethod
    def _names_are_entries(cls, value: object) -> object:
        if isinstance(value, dict):
            return [{"name": name, "value": number} for name, number in value.items()]
        if isinstance(value, list):
            return [entry if isinstance(entry, dict) else {"name": entry} for entry in value]
        return value

    @property
    def splits(self) -> dict[str, SplitEntry]:
        """The splits that are given, by name."""
        given = {"train": self.train, "val": self.val, "test": self.test}
        return {name: entry for name, entry in given.items() if entry is not None}


class SourceEntry(SingleDataset):
    """One of several datasets that are joined; what it states overrides the dataset file in its folder.

    Attributes:
        name: the first part of its images' ids; default: from `path`, the folder or YAML file.
        share: of an epoch's crops, in proportion to the other shares; default: by the number of images.
        complete: whether its images show none of the other sets' classes that it is not labelled for.
        rename: names of the whole by its own class names.
    """

    path: str
    name: Annotated[str, Field(pattern=r"^\w[\w .-]*$")] | None = None
    share: Annotated[float, Field(gt=0.0, le=1e6), Number] | None = None
    complete: bool = False
    rename: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it

    @model_validator(mode="before")
    @classmethod
    def _a_path_is_an_entry(cls, value: object) -> object:
        return {"path": value} if isinstance(value, str) else value


class DatasetFile(SingleDataset):
    """The content of the file.

    Attributes:
        recorded: notes of a run on the dataset, for people; ignored when the file is read.
    """

    sources: tuple[SourceEntry, ...] = ()
    recorded: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _sources_state_the_rest(self) -> "DatasetFile":
        others = sorted(self.model_fields_set - {"path", "classes", "recorded", "sources"})
        others += [
            f"value and from of class {it.name!r}" for it in self.classes or () if it.value is not None or it.merged
        ]
        if self.sources and others:
            raise ValueError(f"{others[0]}: cannot be stated next to sources; state it in those that need it")
        return self


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


def read_statements(
    source: str | Path | Sequence[str | Path], data: DataConfig, own: Mapping[str, Any] | None = None
) -> Statements:
    """Read the YAML file, if there is one; settings override it, and the ignored values of both apply.

    Args:
        source: a folder, a YAML file, or several of both, which are joined.
        own: values of a `SingleDataset` that override those of the file.

    Raises:
        DataError: the source or the folder of its data does not exist.
        ConfigError: as `read_dataset_file`.
    """
    if not isinstance(source, (str, Path)):
        entries = _by_name([SourceEntry(path=str(path)) for path in source])
        classes = tuple(ClassEntry(name=name) for name in data.classes) if data.classes else None
        return Statements(Path(" + ".join(entries)), None, Path(), None, {}, classes, data, entries)
    source = Path(source)
    if not source.exists():
        raise DataError(f"{source}: no such file or folder; a dataset is a folder or a YAML file{_hub_advice(source)}")
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
            raise ConfigError(f"{stated.source}: {entry.path} has sources itself; name those here in its place")
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


def _hub_advice(source: Path) -> str:
    """How to download a dataset that is named as on the Hugging Face hub."""
    match = None if source.parent.is_dir() else _HUB_NAME.fullmatch(source.as_posix())
    command = match and f"hf download {match[1]} --repo-type dataset --local-dir {match[2]}"
    return f"; one of the Hugging Face hub has to be downloaded first: {command}" if command else ""


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


def read_dataset_file(file: Path) -> DatasetFile:
    """Read and check the file.

    Raises:
        DataError: it cannot be read as YAML.
        ConfigError: an unknown key (the nearest known one is named), or a value that is not allowed.
    """
    content = read_yaml(file)
    if content is not None and not isinstance(content, dict):
        raise DataError(f"{file}: a mapping with the keys {', '.join(DatasetFile.model_fields)} is needed")
    try:
        return DatasetFile.model_validate(content or {})
    except ValidationError as error:
        raise _explain(error, file) from None


def _explain(error: ValidationError, file: Path) -> ConfigError:
    first: Any = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden":
        return explain(error, origin=str(file))
    *above, key = first["loc"]
    kinds: dict[str, type[Section]] = {"": DatasetFile, "classes": ClassEntry, "sources": SourceEntry}
    section = kinds.get(next((part for part in reversed(above) if isinstance(part, str)), ""), SplitEntry)
    where = f" in {'.'.join(str(part) for part in above)}" if above else ""
    return ConfigError(f"{file}: unknown key {str(key)!r}{where}; {nearest(str(key), section.model_fields)}")
