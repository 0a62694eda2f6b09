"""Files next to the masks that give each value or colour a class name.

| file | content of a line | source |
|---|---|---|
| `labelmap.txt` | `name:r,g,b:parts:actions` | CVAT |
| `class_mapping.csv` | `class_name,class_color`, a colour as `r g b` | Darwin |
| `class_dict.csv`, `colormap.csv` | `name,r,g,b`, after a header of these words | CamVid of Kaggle, DeepGlobe |
| `label_colors.txt` | `r g b name` | CamVid |
| `_classes.csv` | `Pixel Value, Class`, after a header of these words | Roboflow |
| `id2label.json` | `{"0": "name", ...}`, a value for each name | Hugging Face |
| `class_names.txt`, `codes.txt`, `classes.txt` | a name | LabelMe's labelme2voc, fastai |
| `labels.txt` | a name, and nothing else | PaddleX, PaddleSeg |
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pyramidseg.base.classes import Color
from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.safe_paths import short
from pyramidseg.base.text_files import is_number, read_text
from pyramidseg.formats.dataset_format import ParsedDataset, SourceLabel
from pyramidseg.formats.paths import child_file

MAX_BYTES = 2**20
"""Larger files are refused; a list of 65536 classes is smaller."""

MAX_VALUE = 2**16 - 1
"""The largest mask value."""

VOID_NAMES = ("void", "unlabelled", "unlabeled", "unknown", "ignore", "ignored", "__ignore__")
"""Names, in lower case, of classes that are ignored unless the user makes them classes."""


def listed_name(name: str) -> str:
    """`LabelWriter.read_as` of the formats whose classes are in such a file."""
    return "" if name.strip().lower() in VOID_NAMES else name.strip()


class ClassList(NamedTuple):
    """Content of a file; values are positions unless the file gives them. A file with a defect has no labels."""

    labels: tuple[SourceLabel, ...] = ()
    notes: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()


def with_class_list(parsed: ParsedDataset, folder: Path) -> ParsedDataset:
    """The dataset with the classes of the list in its folder."""
    labels, notes, defects = find_class_list(folder)
    return replace(parsed, labels=labels, notes=(*parsed.notes, *notes), defects=(*parsed.defects, *defects))


def find_class_list(folder: Path) -> ClassList:
    """Read the class list in a folder, if there is one; of several, the first in the order of `PARSERS`.

    A list that cannot be read is a defect, and so is each malformed line, and a value or colour that is given twice.
    """
    files = [(child_file(folder, name), parse) for name, parse in PARSERS.items()]
    found = [(file, parse) for file, parse in files if file is not None and not _is_unclear(file)]
    if not found:
        return ClassList(notes=tuple(_unread_lists(folder)))
    file, parse = found[0]
    flaws = DefectCollector()
    labels: list[SourceLabel] = []
    with flaws.collect():
        labels = list(_distinct(file, parse(file, _lines(file), flaws), flaws))
        if not labels and not flaws.defects:
            raise DefectError(DefectKind.BAD_ANNOTATION, file, "contains no class names; add some or delete the file")
        if labels and all(label.ignored for label in labels):
            detail = f"contains only ignored classes ({short(labels[0].name)}); add classes or delete the file"
            raise DefectError(DefectKind.BAD_ANNOTATION, file, detail)
    if flaws.defects:
        return ClassList(defects=flaws.defects)
    others = "".join(f"; {other.name} is not read" for other, _ in found[1:])
    return ClassList(tuple(labels), (f"{file.name} names the classes{others}",))


def with_default_labels(parsed: ParsedDataset, labels: tuple[SourceLabel, ...], *notes: str) -> ParsedDataset:
    """The dataset with these classes, and notes on them, unless a class list names others or has a defect."""
    if parsed.labels or has_damaged_list(parsed):
        return parsed
    return replace(parsed, labels=labels, notes=(*parsed.notes, *notes))


def has_damaged_list(parsed: ParsedDataset) -> bool:
    """Whether a class list has a defect."""
    return any(defect.file.name.lower() in PARSERS for defect in parsed.defects)


def _is_unclear(file: Path) -> bool:
    """Whether a labels.txt has more in a line than a name."""
    if file.name.lower() != "labels.txt":
        return False
    try:
        return any(re.search(r"[,:;\t]|^\S*\d+\s|\s\d", line) for _, line in _lines(file))
    except DefectError:
        return False


def _unread_lists(folder: Path) -> Iterator[str]:
    """Notes on files that may name the classes but are not read: under other names, or one level above the dataset."""
    for name, advice in UNREAD.items():
        if (file := child_file(folder, name)) is not None:
            yield f"{file} may name the classes but is not read: {advice}"
    above = folder.resolve().parent
    for name in PARSERS:
        if (file := child_file(above, name)) is not None:
            yield f"{file} is outside the dataset and not read: copy it into {folder} if it names the classes"


def voc_color(index: int) -> Color:
    """Colour of an index in Pascal VOC's palette: its bits, lowest first, fill the channels from the highest bit on."""
    red, green, blue = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(8)) for channel in range(3)
    )
    return red, green, blue


Numbered = Iterable[tuple[int, str]]
"""Lines with their numbers, from 1."""


def _labelmap(file: Path, lines: Numbered, flaws: DefectCollector) -> Iterator[SourceLabel]:
    written = [(number, line) for number, line in lines if not line.startswith("#")]
    for position, (number, line) in enumerate(written):
        name, _, rest = line.partition(":")
        color = rest.split(":")[0].strip()
        with flaws.collect():
            parsed = _color(file, number, line, color.split(",")) if color else voc_color(position)
            yield _label(file, number, name, position, parsed)


def _color_table(
    file: Path, lines: Numbered, flaws: DefectCollector, *, name: str, colors: tuple[str, ...]
) -> Iterator[SourceLabel]:
    """A table with a column of names, and one or three columns of colours."""
    for position, (number, line, cells) in enumerate(_table(file, lines, flaws, columns=(name, *colors))):
        with flaws.collect():
            color = _color(file, number, line, " ".join(cells[column] for column in colors).split())
            yield _label(file, number, cells[name], position, color)


def _label_colors(file: Path, lines: Numbered, flaws: DefectCollector) -> Iterator[SourceLabel]:
    written = [(number, line) for number, line in lines if not line.startswith("#")]
    for position, (number, line) in enumerate(written):
        parts = line.split(maxsplit=3)
        with flaws.collect():
            color = _color(file, number, line, parts[:3])
            yield _label(file, number, parts[3] if len(parts) == 4 else "", position, color)


def _roboflow(file: Path, lines: Numbered, flaws: DefectCollector) -> Iterator[SourceLabel]:
    for number, line, cells in _table(file, lines, flaws, columns=("pixel value", "class")):
        value = cells["pixel value"]
        with flaws.collect():
            if not is_number(value, most=MAX_VALUE):
                detail = f"{short(line)}: the pixel value has to be a number from 0 to {MAX_VALUE}"
                raise _flaw(file, number, detail)
            yield _label(file, number, cells["class"], int(value))


def _names(file: Path, lines: Numbered, flaws: DefectCollector) -> Iterator[SourceLabel]:
    lines = list(lines)
    for (before, _), (number, _) in pairwise(lines):
        if number > before + 1:
            flaws.add(*_flaw(file, before + 1, "is empty, but a class is known by its line; add its name").defects)
    # __ignore__ is -1 of labelme2voc, and 255 in its masks
    names = [(number, line) for number, line in lines if line != "__ignore__" and not line.startswith("#")]
    for position, (number, line) in enumerate(names):
        yield _label(file, number, "background" if line == "_background_" else line, position)


def _id2label(file: Path, lines: Numbered, flaws: DefectCollector) -> Iterator[SourceLabel]:
    try:
        names = json.loads("\n".join(line for _, line in lines))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, dict) or not all(
        is_number(value, most=MAX_VALUE) and isinstance(name, str) for value, name in names.items()
    ):
        detail = f'has to be an object with a name for each mask value from 0 to {MAX_VALUE}, {{"0": "road", ...}}'
        raise DefectError(DefectKind.BAD_ANNOTATION, file, detail)
    for value, name in sorted(names.items(), key=lambda entry: int(entry[0])):
        yield _label(file, 1, name, int(value))


_class_dict = partial(_color_table, name="name", colors=("r", "g", "b"))

PARSERS: dict[str, Callable[[Path, Numbered, DefectCollector], Iterator[SourceLabel]]] = {
    "labelmap.txt": _labelmap,
    "class_dict.csv": _class_dict,
    "class_dict_seg.csv": _class_dict,
    "label_class_dict.csv": _class_dict,
    "colormap.csv": _class_dict,
    "class_mapping.csv": partial(_color_table, name="class_name", colors=("class_color",)),
    "label_colors.txt": _label_colors,
    "_classes.csv": _roboflow,
    "id2label.json": _id2label,
    "class_names.txt": _names,
    "codes.txt": _names,
    "classes.txt": _names,
    "labels.txt": _names,
}
"""The parser of a file, by its name in lower case; malformed lines are defects."""

UNREAD = {
    "labels.txt": "it has more than a name in a line; list the classes under classes in a YAML file",
    "classes.json": "list its classes in a YAML file (classes: [{name: road, color: [128, 64, 128]}, ...])",
}
"""Files that often name classes but have no fixed content, and the next step."""


def _lines(file: Path) -> list[tuple[int, str]]:
    lines = enumerate(read_text(file, most=MAX_BYTES).splitlines(), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def _table(
    file: Path, lines: Numbered, flaws: DefectCollector, *, columns: tuple[str, ...]
) -> Iterator[tuple[int, str, dict[str, str]]]:
    """The rows below the header, which must name the columns, in any order, possibly with others.

    Yields:
        The number of the line, its text, and its cells by the column's name in lower case.
    """
    lines = list(lines)
    separator = next((mark for mark in ",;\t" if lines and mark in lines[0][1]), ",")
    written = [(number, line, _cells(line, separator)) for number, line in lines]
    header = [name.lower() for name in written[0][2]] if written else []
    if not set(columns) <= set(header):
        detail = f"the first line has to name the columns {', '.join(columns)}; got {short(', '.join(header))}"
        raise DefectError(DefectKind.BAD_ANNOTATION, file, detail)
    for number, line, cells in written[1:]:
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if not any(cells):  # as spreadsheets leave behind
            continue
        if len(cells) == len(header):
            yield number, line, dict(zip(header, cells, strict=True))
        else:
            detail = f"{short(line)}: {len(header)} columns are needed, as in the first line"
            flaws.add(*_flaw(file, number, detail).defects)


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
    except csv.Error:  # a cell of more than 131072 characters
        return [line]


def _color(file: Path, number: int, line: str, parts: Iterable[str]) -> Color:
    values = [part.strip() for part in parts]
    if len(values) != 3 or not all(is_number(value, most=255) for value in values):
        raise _flaw(file, number, f"{short(line)}: a colour of three numbers from 0 to 255 is needed")
    red, green, blue = map(int, values)
    return red, green, blue


def _label(file: Path, number: int, name: str, value: int, color: Color | None = None) -> SourceLabel:
    name = name.strip()
    if not name:
        raise _flaw(file, number, "a class without a name")
    return SourceLabel(name, value, color, ignored=name.lower() in VOID_NAMES)


def _distinct(file: Path, labels: Iterable[SourceLabel], flaws: DefectCollector) -> Iterator[SourceLabel]:
    """The labels; two classes with the same value or colour are a defect."""
    seen: dict[int | Color, SourceLabel] = {}
    for label in labels:
        for what in (label.value, label.color):
            other = label if what is None else seen.setdefault(what, label)
            if other.name != label.name and not (other.ignored and label.ignored):
                pair = f"{short(other.name)} and {short(label.name)}"
                detail = f"{pair} have the same value or colour, {what}; give each its own"
                flaws.add(Defect(DefectKind.BAD_ANNOTATION, file, detail))
        yield label


def _flaw(file: Path, number: int, detail: str) -> DefectError:
    return DefectError(DefectKind.BAD_ANNOTATION, file, f"line {number}: {detail}")
