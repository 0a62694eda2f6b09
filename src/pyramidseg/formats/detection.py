"""Detects the format of a folder: every format is asked, and exactly one must fit."""

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import members
from pyramidseg.base.safe_paths import first_bytes
from pyramidseg.base.text import first_few
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, PartialMatch, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.name_matching import likely_mask_name, match_names
from pyramidseg.formats.pairing import LOSSY_EXTENSIONS, Side, pair_by_name
from pyramidseg.formats.paths import content, subfolders
from pyramidseg.formats.regions import export_files
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousDatasetError, AmbiguousReadingError
from pyramidseg.images.decode import read_header, read_image
from pyramidseg.images.image_files import (
    UNREAD_EXTENSIONS,
    UnlistableFolderError,
    count_extensions,
    is_image_name,
    walk,
)

Formats = Mapping[str, DatasetFormat[Any]]

_MAX_FOLDERS = 40
_MAX_DEPTH = 3
_SHOWN = 3
_SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_SPLIT_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(_SPLITS)})(?![a-z])", re.IGNORECASE)


class _Detected(NamedTuple):
    """A format that fits a folder, and what its `detect` found, or the error that it raised."""

    format: DatasetFormat[Any]
    folder: Path
    handle: Any


def read_folder(
    root: Path, splits: SplitNames, config: LabelConfig, *, formats: Formats, source: Path
) -> ParsedDataset:
    """Read a folder by the one format that fits it; a folder that contains nothing but another folder is entered.

    Args:
        source: what the user named, for messages.

    Raises:
        DataError: no format fits, or several do, or nothing can be read.
    """
    partial_matches: list[PartialMatch] = []
    for folder in _nested_folders(root):
        fitting, partial = _fitting_formats(folder, splits, formats)
        partial_matches += partial
        errors = {str(it.handle) if isinstance(it.handle, DataError) else it.format.name for it in fitting}
        if len(errors) > 1:  # a single error is that of the folder, whatever its format
            raise _several_formats(folder, fitting, source=source)
        if fitting:
            return _read(fitting[0], config)
    detail = _not_recognised(root, splits, formats, partial_matches)
    if splits == SPLIT_NAMES and len(formats) > 1 and (pairs := _folder_pairs(root)):
        raise AmbiguousDatasetError(source, detail.removeprefix(f"{root}: "), pairs)
    raise DataError(detail)


def _read(detected: _Detected, config: LabelConfig) -> ParsedDataset:
    if isinstance(detected.handle, DataError):
        raise detected.handle
    parsed = detected.format.read(detected.handle, config)
    return replace(parsed, root=detected.folder, format=detected.format.name)


def _nested_folders(root: Path) -> Iterator[Path]:
    """The folder, and the folders in it as long as each contains a single folder, as unpacked archives often do."""
    yield root
    for _ in range(_MAX_DEPTH):
        inner = subfolders(root)
        if len(inner) != 1:
            return
        root = inner[0]
        yield root


def _fitting_formats(folder: Path, splits: SplitNames, formats: Formats) -> tuple[list[_Detected], list[PartialMatch]]:
    """The formats that fit a folder, without the more general ones of them, and those that fit partially."""
    fitting: list[_Detected] = []
    partial: list[PartialMatch] = []
    for format in formats.values():
        try:
            handle = format.detect(folder, splits)
        except PartialMatch as match:
            partial.append(match)
        except UnlistableFolderError:
            raise
        except DataError as error:
            fitting.append(_Detected(format, folder, error))
        else:
            if handle is not None:
                fitting.append(_Detected(format, folder, handle))
    covered = {name for detected in fitting for name in detected.format.covers}
    return [detected for detected in fitting if detected.format.name not in covered], partial


def _several_formats(folder: Path, fitting: Sequence[_Detected], *, source: Path) -> AmbiguousDatasetError:
    names = [detected.format.name for detected in fitting]
    problems = [f"as {name}, {problem}" for name, it in zip(names, fitting, strict=True) if (problem := _problem(it))]
    found = f" ({'; '.join(problems)})" if problems else ""
    where = "" if folder == source else f"{folder}: "
    return AmbiguousDatasetError(
        source,
        f"{where}the folder could be of format {' or '.join(names)}{found}; set data.format",
        [Alternative(detected.format.layout, {"format": detected.format.name}) for detected in fitting],
    )


def _problem(detected: _Detected) -> str:
    """The first thing that a format finds wrong with its files."""
    try:
        return "".join(f"{defect.file}: {defect.detail}" for defect in _read(detected, LabelConfig()).defects[:1])
    except DataError as error:
        return str(error)


def _not_recognised(root: Path, splits: SplitNames, formats: Formats, partial: Sequence[PartialMatch]) -> str:
    what, known = "a dataset", f"known layouts: {', '.join(formats)}"
    way_out = "or name folders in a YAML file (train: {images: ..., masks: ...}; for one folder, and mask_name: ...)"
    if len(formats) == 1:
        (format,) = formats.values()
        what, known = f"a dataset of format {format.name}", f"expected {format.layout}"
        way_out = "leave the format out (data.format), so that it is detected"
    if splits != SPLIT_NAMES:
        what += f" with the folders {', '.join(repr(name) for names in splits.values() for name in names)}"
    others = [path for path in subfolders(root)[:_MAX_FOLDERS] if path.name.lower() not in _SPLITS]
    inside = [path for path in others if _fitting_formats(path, splits, formats)[0]]
    found = [f"found {_describe(root)}", *map(str, partial), *_name_other_tools(root)]
    if damaged := _damaged_json(root):
        found.append(
            f"cannot be read as JSON: {first_few(list(damaged), limit=_SHOWN)} ({next(iter(damaged.values()))})"
        )
    if inside:
        found.append(f"these folders in it are datasets themselves: name {first_few(inside, limit=_SHOWN)}")
    known += " (the documentation has a page for each)"
    return f"{root}: not recognised as {what}: {'; '.join(found)}; {known}; {way_out}"


def _damaged_json(root: Path) -> dict[Path, str]:
    """JSON files that cannot be read, and why: the dataset might be detected by them otherwise."""
    found: dict[Path, str] = {}
    for file in export_files(root, ".json")[:_MAX_FOLDERS]:
        try:
            if json_kind(file) == "damaged":
                deque(members(file), maxlen=0)
        except DataError as error:
            found[file] = str(error).removeprefix(f"{file}: ")
    return found


def _folder_pairs(root: Path) -> list[Alternative]:
    """Dataset files that name folders of images and of masks whose file names agree, in every split that has both."""
    inner = [root, *subfolders(root)[:_MAX_FOLDERS]]
    folders = [folder for place in inner for folder in subfolders(place)[:_MAX_FOLDERS]]
    files = {folder: [file for file in content(folder) if is_image_name(file.name)] for folder in folders}
    filled = [Side.of(folder, listed) for folder, listed in files.items() if listed][:_MAX_FOLDERS]
    found: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    for images, masks in _likely_pairs(filled):
        (name, split, role), (mask_name, mask_split, mask_role) = (_place(s.folder, root) for s in (images, masks))
        agreeing = _agreeing(images, masks) if split == mask_split else 0
        if 2 * agreeing >= len(images.files):
            count, splits = found.get((role, mask_role), (0, {}))
            found[role, mask_role] = count + agreeing, {**splits, split: {"images": name, "masks": mask_name}}
    return [
        Alternative(f"{count} names agree", {split: splits[split] for split in SPLIT_NAMES if split in splits})
        for (role, _), (count, splits) in sorted(found.items(), key=lambda item: -item[1][0])
        if role not in {mask_role for _, mask_role in found}
    ][:_SHOWN] or _groups_of_names(root)


def _groups_of_names(root: Path) -> list[Alternative]:
    """Dataset files for a folder whose files, grouped by what their names share, could be images and their masks."""
    files = [file for file in content(root) if is_image_name(file.name)]
    groupings: list[dict[str, list[Path]]] = []
    for varying in (r"\d+", r"^[^-_. ]+", r"[^-_. ]+$"):  # numbers, or the first or last word
        groupings.append({})
        for file in files:
            groupings[-1].setdefault(re.sub(varying, "*", file.stem), []).append(file)
    groups = min((found for found in groupings if len(found) > 1), key=len, default={})
    pairs = _likely_pairs([Side.of(root, group) for group in groups.values()])
    keys = ((images.keys, masks.keys) for images, masks in pairs)
    names = dict.fromkeys(likely_mask_name(*both) for both in keys if match_names(*both))
    here = {"train": {"images": ".", "masks": "."}}
    return [Alternative(f"masks are named like {name}", {**here, "mask_name": name}) for name in [*names][:_SHOWN]]


def _likely_pairs(sides: Sequence[Side]) -> Iterator[tuple[Side, Side]]:
    """Images and masks among groups of files: the most likely images, and what differs from them as masks do."""
    found = sorted(((_likely_masks(side), at) for at, side in enumerate(sides)))
    for at, (kind, images) in enumerate(found):
        for other, masks in found[:at:-1]:
            if kind[:2] < other[:2] or 2 * other[2] >= kind[2]:  # half of the levels or fewer
                yield sides[images], sides[masks]


def _agreeing(images: Side, masks: Side) -> int:
    """The number of images that have a mask, or several."""
    try:
        return len(pair_by_name(images, masks).records)
    except AmbiguousReadingError:
        return len(images.files)


def _place(folder: Path, root: Path) -> tuple[str, str, str]:
    """The path of a folder, its split (train if its path names none), and the path without the name of the split."""
    name = folder.relative_to(root).as_posix()
    match = _SPLIT_WORD.search(name)
    return (name, _SPLITS[match[0].lower()], name.replace(match[0], "*")) if match else (name, "train", name)


def _likely_masks(side: Side) -> tuple[bool, bool, int]:
    """Of masks greater than of images: the first is stored without loss, has a single channel, and few levels."""
    try:
        channels, levels = read_header(side.files[0]).channels, np.unique(read_image(side.files[0], channels=1))
    except DataError:
        return False, False, 0
    return side.files[0].suffix.lower() not in LOSSY_EXTENSIONS, channels == 1, -len(levels)


def _describe(root: Path) -> str:
    """The folders in a folder, and all files in and below it, counted by extension."""
    folders = [f"{path.name}/" for path in subfolders(root)]
    shown = folders[:6] + ([f"{len(folders) - 6} more folders"] if len(folders) > 6 else [])
    files = [Path(name) for _, _, names in walk(root) for name in names if not name.startswith(".")]
    unread = [file for file in files if file.name.lower().endswith(UNREAD_EXTENSIONS)]
    what = f"{count_extensions(files) or 'no files'} in all" if folders else count_extensions(files) or "nothing"
    types = f"; of these types, {count_extensions(unread)} are not read" if unread else ""
    return ", ".join([*shown, what]) + types


# Files of tools that are not read.

_FIRST_BYTES = 2**15
_MAX_TOOL_FILES = 40


class _Tool(NamedTuple):
    """A tool, and patterns that the end of a file's name in lower case and the beginning of the file match."""

    name: str
    names: str
    content: tuple[bytes, ...]
    advice: str


_JSON = r"\.(json|jsonl|ndjson)"
_POINTS = "outline the objects, or make masks from the boxes or points with another program"
_SLICES = "write the slices to PNG or TIFF files"
_TOOLS = (
    _Tool(
        "Labelbox",
        _JSON,
        (rb'"data_row"|"DataRow ID"', rb'"(media_attributes|projects|Labeled Data)"'),
        "its masks are URLs: download them as PNG",
    ),
    _Tool("V7 Darwin", _JSON, (rb'"item"', rb'"slots"'), "export as COCO or as semantic masks"),
    _Tool("Encord", _JSON, (rb'"(data_hash|label_hash)"', rb'"(data_units|object_answers)"'), "export as COCO"),
    _Tool("Scale AI", _JSON, (rb'"task_id"', rb'"(response|annotations)"'), "export the semantic masks as PNG"),
    _Tool("Datumaro", _JSON, (rb'"categories"\s*:\s*\{', rb'"items"\s*:\s*\['), "export as COCO or as Pascal VOC"),
    _Tool("CreateML with boxes", _JSON, (rb'"coordinates"\s*:\s*\{',), _POINTS),
    _Tool(
        "another task of COCO",
        r"(person_keypoints|captions|image_info)_.*\.json",
        (rb'"images"',),
        "the outlines are in instances_... of the same images",
    ),
    _Tool("TensorFlow Object Detection (CSV of boxes)", r"\.csv", (rb"\A[^\n]*xmin[^\n]*ymax",), _POINTS),
    _Tool(
        "SageMaker Ground Truth",
        rf"\.manifest|{_JSON}",
        (rb'"source-ref"',),
        "download the masks that its -ref keys name",
    ),
    _Tool("TFRecord", r"\.(tfrecords?|record)(-\d+-of-\d+)?", (), "write its images and masks to PNG files"),
    _Tool(
        "LabelMe's web version",
        r"\.xml",
        (rb"<annotation[\s>]", rb"<polygon>", rb"<pt>"),
        "convert it to LabelMe's JSON",
    ),
    _Tool("Pascal VOC with boxes", r"\.xml", (rb"<annotation[\s>]", rb"<bndbox>"), _POINTS),
    _Tool("DICOM", r"\.dcm", (), _SLICES),
    _Tool("DICOM", r"^[^.]+", (rb"(?s)\A.{128}DICM",), _SLICES),
    _Tool("NIfTI", r"\.nii(\.gz)?", (), _SLICES),
)


def _name_other_tools(root: Path) -> Iterator[str]:
    """For each tool, the first file of it in and below a folder, and what to export instead."""
    files = (Path(folder, name) for folder, _, names in walk(root) for name in names)
    named = ((file, [tool for tool in _TOOLS if re.search(f"({tool.names})$", file.name.lower())]) for file in files)
    found: dict[str, str] = {}
    for file, tools in islice(((file, tools) for file, tools in named if tools), _MAX_TOOL_FILES):
        data = first_bytes(file, _FIRST_BYTES)
        for tool in tools:
            if tool.name not in found and all(re.search(part, data) for part in tool.content):
                found[tool.name] = f"{file} is of {tool.name}, which is not read: {tool.advice}"
    yield from found.values()
