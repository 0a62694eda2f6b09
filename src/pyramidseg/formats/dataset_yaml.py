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
                         # bands, class_property, vector_crs, window, window_gap

sources:                 # several datasets, joined by the names of their classes; each may have the keys above
- streets                # or {path: streets, name: a, rename: {asphalt: road}, share: 0.5, complete: true}
                         # next to sources only path (of theirs) and classes (names and colours of the whole) are stated

RUN/dataset.yaml is such a file: it opens the dataset of a run as the run did.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import ConfigError, DataError, nearest
from pyramidseg.base.overrides import explain
from pyramidseg.base.setting_types import MaskReference, Number, Section
from pyramidseg.base.text_files import read_yaml

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
