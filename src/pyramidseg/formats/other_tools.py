"""Names annotation files of tools that are not read, by their first bytes, and the export that is."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pyramidseg.base.safe_paths import open_regular
from pyramidseg.images.image_files import walk

_FIRST_BYTES = 2**15
_MAX_FILES = 40


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


def name_other_tools(root: Path) -> Iterator[str]:
    """For each tool, the first file of it in and below a folder, and what to export instead."""
    files = (Path(folder, name) for folder, _, names in walk(root) for name in names)
    named = ((file, [tool for tool in _TOOLS if re.search(f"({tool.names})$", file.name.lower())]) for file in files)
    found: dict[str, str] = {}
    for file, tools in islice(((file, tools) for file, tools in named if tools), _MAX_FILES):
        try:
            with open_regular(file) as stream:
                data = stream.read(_FIRST_BYTES)
        except OSError:
            continue
        for tool in tools:
            if tool.name not in found and all(re.search(part, data) for part in tool.content):
                found[tool.name] = f"{file} is of {tool.name}, which is not read: {tool.advice}"
    yield from found.values()
