"""Names annotation files of tools that are not read, by their first bytes, and the export that is."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pyramidseg.base.safe_paths import open_regular
from pyramidseg.images.image_files import walk

_FIRST_BYTES = 2**15
_MAX_FILES = 40


class _Tool(NamedTuple):
    name: str
    extensions: tuple[str, ...]
    content: tuple[bytes, ...]
    advice: str


_JSON = (".json", ".jsonl", ".ndjson")
_POINTS = "outline the objects, or make masks from the boxes or points with another program"
_TOOLS = (
    _Tool(
        "Labelbox",
        _JSON,
        (rb'"data_row"', rb'"(media_attributes|projects)"'),
        "its masks are URLs: download them as PNG",
    ),
    _Tool("V7 Darwin", _JSON, (rb'"item"', rb'"slots"'), "export as COCO or as semantic masks"),
    _Tool("Encord", _JSON, (rb'"(data_hash|label_hash)"', rb'"(data_units|object_answers)"'), "export as COCO"),
    _Tool("Scale AI", _JSON, (rb'"task_id"', rb'"(response|annotations)"'), "export the semantic masks as PNG"),
    _Tool(
        "SageMaker Ground Truth",
        (".manifest", *_JSON),
        (rb'"source-ref"',),
        "download the masks that its -ref keys name",
    ),
    _Tool("TFRecord", (".tfrecord", ".tfrecords", ".record"), (), "write its images and masks to PNG files"),
    _Tool(
        "LabelMe's web version",
        (".xml",),
        (rb"<annotation[\s>]", rb"<polygon>", rb"<pt>"),
        "convert it to LabelMe's JSON",
    ),
    _Tool("Pascal VOC with boxes", (".xml",), (rb"<annotation[\s>]", rb"<bndbox>"), _POINTS),
    _Tool("DICOM", (".dcm",), (), "write the slices to PNG or TIFF files"),
    _Tool("NIfTI", (".nii", ".nii.gz"), (), "write the slices to PNG or TIFF files"),
)


def name_other_tools(root: Path) -> Iterator[str]:
    """For each tool, the first file of it in and below a folder, and what to export instead."""
    files = (Path(folder, name) for folder, _, names in walk(root) for name in names)
    extensions = tuple(extension for tool in _TOOLS for extension in tool.extensions)
    candidates = [file for file in files if file.name.lower().endswith(extensions)]
    found: dict[str, str] = {}
    for file in candidates[:_MAX_FILES]:
        try:
            with open_regular(file) as stream:
                data = stream.read(_FIRST_BYTES)
        except OSError:
            continue
        for tool in _TOOLS:
            fits = file.name.lower().endswith(tool.extensions) and all(re.search(part, data) for part in tool.content)
            if fits and tool.name not in found:
                found[tool.name] = f"{file} is of {tool.name}, which is not read: {tool.advice}"
    yield from found.values()
