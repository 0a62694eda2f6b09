"""Hugging Face `datasets`: an image folder with metadata, or files of Parquet or Arrow with columns of images.

    train/metadata.jsonl    train/a.jpg    train/masks/a.png    id2label.json
        {"file_name": "a.jpg", "mask_file_name": "masks/a.png"}

    data/train-00000-of-00002.parquet    data/validation-00000-of-00001.parquet
    train/data-00000-of-00001.arrow      train/dataset_info.json                    (save_to_disk)

Rows of Parquet and Arrow are unpacked to image files in the cache folder, once (`unpacked_rows`).
`WRITER` writes image folders: masks of class ids, metadata.jsonl for each split, and id2label.json.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyramidseg.annotations.polygons import Location
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError, nearest
from pyramidseg.base.safe_paths import is_file, resolve_inside, short
from pyramidseg.base.text import first_few
from pyramidseg.base.text_files import read_text
from pyramidseg.data.records import Record
from pyramidseg.formats.class_lists import listed_name, with_class_list, with_default_labels
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    UNLABELLED_SPLIT,
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SourceLabel,
    SplitNames,
)
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.paired import paired_dataset
from pyramidseg.formats.paired_writer import png
from pyramidseg.formats.pairing import key_of, pair_folders
from pyramidseg.formats.paths import child_file, content, holds_images, subfolders
from pyramidseg.formats.unpacked_rows import read_columns, unpack
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousReadingError
from pyramidseg.images.image_files import list_files

METADATA = ("metadata.jsonl", "metadata.csv")
FILE_NAME = "file_name"
COLUMNS = (".parquet", ".arrow")

MAX_BYTES = 2**28
"""Of a metadata file: a million images."""

_MASK = re.compile(r"mask|label|annotation|segment|gt|target", re.IGNORECASE)


@dataclass(frozen=True)
class HuggingFaceFiles:
    """The metadata files, or the files of columns, by split."""

    root: Path
    metadata: Mapping[str, Path]
    columns: Mapping[str, tuple[Path, ...]]


def detect(root: Path, splits: SplitNames) -> HuggingFaceFiles | None:
    """Find metadata files in the folder and in those of its splits; without images, files of columns below it.

    Raises:
        PartialMatch: the metadata has no column of masks.
        DataError: files of columns of several configurations.
    """
    places = {"": root, **{split: path for path in subfolders(root) if (split := _split_of([path.name], splits))}}
    files = {split: file for split, place in places.items() for name in METADATA if (file := child_file(place, name))}
    if files:
        has_masks = [bool(_mask_columns(_first_row(file))) for file in files.values()]
        if any(has_masks):
            return HuggingFaceFiles(root, files, {})
        if any(FILE_NAME in _first_row(file) for file in files.values()):
            raise PartialMatch(f"{next(iter(files.values()))} names images and no masks (mask_{FILE_NAME})")
        return None
    tables = [file for file in list_files(root, COLUMNS) if not file.name.startswith("cache-")]
    if not tables or holds_images(root):
        return None
    found: dict[str, list[Path]] = {}
    settings: set[str] = set()
    for file in tables:
        folders = file.relative_to(root).parts[:-1]
        found.setdefault(_split_of((*folders, file.name), splits) or "train", []).append(file)
        settings.add("/".join(name for name in folders if not _split_of([name], splits)))
    if len(settings) > 1:
        names = first_few(sorted(settings))
        raise DataError(f"{root}: holds the files of several configurations ({names}); name the folder of one of them")
    return HuggingFaceFiles(root, {}, {split: tuple(found[split]) for split in splits if split in found})


def read(found: HuggingFaceFiles, config: LabelConfig) -> ParsedDataset:
    """List the rows of metadata, or unpack those of columns.

    Raises:
        AmbiguousReadingError: several columns could hold the masks.
        MissingExtra: pyarrow is not installed, and the files are of Parquet or Arrow.
        DataError: as `unpack`.
    """
    parsed = (_read_metadata if found.metadata else _read_columns)(found, config.mask_column)
    labels = parsed.labels
    return with_default_labels(with_class_list(replace(parsed, labels=()), found.root), labels)


FORMAT = DatasetFormat(
    "huggingface",
    "Hugging Face datasets: metadata.jsonl with file_name and mask_file_name, or Parquet files with columns of images",
    detect,
    read,
    settings=("mask_column",),
    covers=("paired", "segnet"),
)


def choose_columns(names: Sequence[str], mask_column: str | None, *, source: Path) -> tuple[str, str]:
    """The columns of images and of masks among those of images.

    Raises:
        ConfigError: `mask_column` is none of them.
        AmbiguousReadingError: several could be that of masks.
        DataError: there are fewer than two, or several of images.
    """
    if mask_column is not None and mask_column not in names:
        raise ConfigError(
            f"{source}: mask_column={mask_column}: is not a column of images; {nearest(mask_column, names)}"
        )
    masks = [name for name in names if _MASK.search(name)] if mask_column is None else [mask_column]
    if len(masks) > 1:
        choices = [Alternative(f"masks are in the column {name}", {"mask_column": name}) for name in masks]
        raise AmbiguousReadingError(f"{source}: several columns could hold the masks; choose one", choices)
    others = [name for name in names if name not in masks and not (mask_column and _MASK.search(name))]
    images = ["image"] if "image" in others else others
    if not masks or len(images) != 1:
        raise DataError(
            f"{source}: its columns of images are {first_few(names, limit=8)}, and one named image and one named mask "
            "are needed; rename them, or name that of the masks (data.mask_column=...)"
        )
    return images[0], masks[0]


def _split_of(names: Iterable[str], splits: SplitNames) -> str | None:
    """The split that the last word of a path names, as `datasets` finds it: `data/train-00000-of-00002.parquet`."""
    of_word = {word: split for split, words in splits.items() for word in words}
    words = [word for name in names for word in re.split(r"[^a-z]+", name.lower())]
    return next((of_word[word] for word in reversed(words) if word in of_word), None)


# Image folders.


def _read_metadata(found: HuggingFaceFiles, mask_column: str | None) -> ParsedDataset:
    records: dict[str, dict[str, Record]] = {split: {} for split in SPLIT_NAMES}
    flaws, without, notes = DefectCollector(), Counter[str](), []
    for stated, file in found.metadata.items():
        rows = list(_rows(file, flaws))
        names = dict.fromkeys(name for _, row in rows for name in _mask_columns(row))
        columns = {name.removesuffix(FILE_NAME).rstrip("_"): name for name in names}
        column = ""
        if columns or not rows:
            if mask_column is not None and mask_column not in columns:
                raise ConfigError(
                    f"{file}: mask_column={mask_column}: is not a column of masks; {nearest(mask_column, columns)}"
                )
            column = columns[choose_columns(["image", *columns], mask_column, source=file)[1]]
            notes.append(f"{file.relative_to(found.root)} names the masks ({column})")
        for number, row in rows:
            split = stated or _split_of(str(row.get(FILE_NAME, "")).split("/")[:-1], SPLIT_NAMES) or "train"
            with flaws.collect():
                image = _file(row.get(FILE_NAME), file, found.root, number)
                key = key_of(image, file.parent)
                if key in records[split]:
                    detail = f"names {short(row[FILE_NAME])} again; name each image once"
                    raise Location(file, f"line {number}").error(detail)
                if row.get(column):
                    records[split][key] = Record(key, image, _file(row[column], file, found.root, number))
                else:
                    without[split] += 1
    splits = {split: tuple(some.values()) for split, some in records.items() if some}
    if not splits and not flaws.defects:
        choose_columns(["image"], None, source=next(iter(found.metadata.values())))  # raises
    notes += _left_out(without, splits)
    return ParsedDataset("Hugging Face image folder", splits, notes=tuple(notes), defects=flaws.defects)


def _left_out(without: Mapping[str, int], kept: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    for split, count in without.items():
        if count and split == UNLABELLED_SPLIT and not kept.get(split):
            yield "the test split has no masks and was left out"
        elif count:
            yield f"{count} rows of {split} have no mask and were left out"


def _file(name: object, file: Path, root: Path, number: int) -> Path:
    path = resolve_inside(name, folder=file.parent, root=root, where=file)
    if not is_file(path):
        detail = f"line {number}: names {short(name)}, which does not exist; correct it or add the file"
        raise DefectError(DefectKind.ABSENT, file, detail)
    return path


def _mask_columns(row: Mapping[str, Any]) -> list[str]:
    """Other columns of files of a row that has `file_name`."""
    return [name for name in row if name.endswith(f"_{FILE_NAME}")] if FILE_NAME in row else []


def _first_row(file: Path) -> Mapping[str, Any]:
    try:
        return next((row for _, row in _rows(file, DefectCollector())), {})
    except DataError:
        return {}


def _rows(file: Path, flaws: DefectCollector) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a metadata file with their lines."""
    text = read_text(file, most=MAX_BYTES)
    if file.suffix.lower() == ".csv":
        try:
            yield from enumerate(csv.DictReader(io.StringIO(text), restkey=""), start=2)
        except csv.Error as error:  # a cell of more than 131072 characters
            raise Location(file).error(f"cannot be read as CSV: {error}") from None
        return
    for number, line in enumerate(text.split("\n"), start=1):
        with flaws.collect():
            try:
                row = json.loads(line.strip() or "{}")
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                detail = f'{short(line)} is not an object such as {{"{FILE_NAME}": "a.jpg", ...}}'
                raise Location(file, f"line {number}").error(detail)
            if row:
                yield number, row


# Parquet and Arrow.


def _read_columns(found: HuggingFaceFiles, mask_column: str | None) -> ParsedDataset:
    first = next(iter(found.columns.values()))[0]
    columns, classes = read_columns(first)
    image, mask = choose_columns(columns, mask_column, source=first)
    folder, without = unpack(found.columns, image, mask)
    filled = [split for split in found.columns if content(folder / split / "masks")]
    pairs = {split: pair_folders(folder / split / "images", folder / split / "masks") for split in filled}
    kind = first.suffix.lower().removeprefix(".").capitalize()
    parsed = paired_dataset(f"Hugging Face dataset ({kind})", pairs)
    notes = [f"the columns {image} and {mask} are unpacked to {folder}", *_left_out(without, parsed.splits)]
    notes += ["a list of labels among the columns names the classes"] if classes else []
    labels = tuple(SourceLabel(name, value) for value, name in enumerate(classes))
    return replace(parsed, labels=labels, notes=(*notes, *parsed.notes))


# Writing.


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    mask = f"masks/{image.name}.png"
    row = {"file_name": f"images/{image.name}{image.image.suffix}", "mask_file_name": mask}
    return WrittenLabels({f"{image.split}/{mask}": png(image.labels)}, row)


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    for split, some in parts.items():
        rows = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for _, row in some)
        yield f"{split}/metadata.jsonl", rows
    names = json.dumps({str(index): name for index, name in enumerate(classes.names)}, ensure_ascii=False, indent=2)
    yield "id2label.json", iter([names.encode()])


WRITER = LabelWriter("{split}/images/{name}", _encode, _assemble, lacks="colours of classes", read_as=listed_name)
