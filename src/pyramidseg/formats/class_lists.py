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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def with_default_labels(parsed: ParsedDataset, labels: tuple[SourceLabel, ...], *notes: str) -> ParsedDataset:
    """The dataset with these classes, and notes on them, unless a class list names others or has a defect."""
    if parsed.labels or has_damaged_list(parsed):
        return parsed
    return replace(parsed, labels=labels, notes=(*parsed.notes, *notes))


def has_damaged_list(parsed: ParsedDataset) -> bool:
    """Whether a class list has a defect."""
    return any(defect.file.name.lower() in PARSERS for defect in parsed.defects)


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
        entries = [*parse(_lines(file))]
        labels = [entry for entry in entries if isinstance(entry, SourceLabel)]
        wrong = [*(entry for entry in entries if isinstance(entry, str)), *_repeated(labels)]
        if not entries:
            wrong = ["contains no class names; add some or delete the file"]
        elif labels and all(label.ignored for label in labels):
            wrong.append(f"contains only ignored classes ({short(labels[0].name)}); add classes or delete the file")
        flaws.add(*(Defect(DefectKind.BAD_ANNOTATION, file, detail) for detail in wrong))
    if flaws.defects:
        return ClassList(defects=flaws.defects)
    others = "".join(f"; {other.name} is not read" for other, _ in found[1:])
    return ClassList(tuple(labels), (f"{file.name} names the classes{others}",))


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


def _lines(file: Path) -> list[tuple[int, str]]:
    lines = enumerate(read_text(file, most=MAX_BYTES).splitlines(), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


# The parsers of lines, which come with their numbers from 1. In place of a class they give what is wrong with a line.

Numbered = Sequence[tuple[int, str]]
Entries = Iterator[SourceLabel | str]


def voc_color(index: int) -> Color:
    """Colour of an index in Pascal VOC's palette: its bits, lowest first, fill the channels from the highest bit on."""
    red, green, blue = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(8)) for channel in range(3)
    )
    return red, green, blue


def _labelmap(lines: Numbered) -> Entries:
    written = [(number, line) for number, line in lines if not line.startswith("#")]
    for position, (number, line) in enumerate(written):
        name, _, rest = line.partition(":")
        color = rest.partition(":")[0].strip()
        yield _label(number, line, name, position, color.split(",") if color else map(str, voc_color(position)))


def _color_table(lines: Numbered, *, name: str, colors: tuple[str, ...]) -> Entries:
    """A table with a column of names, and one or three columns of colours."""

    def parse(position: int, number: int, line: str, cells: Mapping[str, str]) -> SourceLabel | str:
        return _label(number, line, cells[name], position, " ".join(cells[column] for column in colors).split())

    return _table(lines, (name, *colors), parse)


def _label_colors(lines: Numbered) -> Entries:
    written = [(number, line) for number, line in lines if not line.startswith("#")]
    for position, (number, line) in enumerate(written):
        parts = line.split(maxsplit=3)
        yield _label(number, line, "".join(parts[3:]), position, parts[:3])


def _roboflow(lines: Numbered) -> Entries:
    def parse(_: int, number: int, line: str, cells: Mapping[str, str]) -> SourceLabel | str:
        if not is_number(cells["pixel value"], most=MAX_VALUE):
            return f"line {number}: {short(line)}: the pixel value has to be a number from 0 to {MAX_VALUE}"
        return _label(number, line, cells["class"], int(cells["pixel value"]))

    return _table(lines, ("pixel value", "class"), parse)


def _names(lines: Numbered) -> Entries:
    for (before, _), (number, _) in pairwise(lines):
        if number > before + 1:
            yield f"line {before + 1}: is empty, but a class is known by its line; add its name"
    # __ignore__ is -1 of labelme2voc, and 255 in its masks
    names = [(number, line) for number, line in lines if line != "__ignore__" and not line.startswith("#")]
    for position, (number, line) in enumerate(names):
        yield _label(number, line, "background" if line == "_background_" else line, position)


def _id2label(lines: Numbered) -> Entries:
    try:
        names = json.loads("\n".join(line for _, line in lines))
    except (ValueError, RecursionError):
        names = None
    if isinstance(names, dict) and all(
        is_number(value, most=MAX_VALUE) and isinstance(name, str) for value, name in names.items()
    ):
        yield from (_label(1, "", names[value], int(value)) for value in sorted(names, key=int))
    else:
        yield f'has to be an object with a name for each mask value from 0 to {MAX_VALUE}, {{"0": "road", ...}}'


_class_dict = partial(_color_table, name="name", colors=("r", "g", "b"))

PARSERS: dict[str, Callable[[Numbered], Entries]] = {
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
"""The parser of a file, by its name in lower case."""

UNREAD = {
    "labels.txt": "it has more than a name in a line; list the classes under classes in a YAML file",
    "classes.json": "list its classes in a YAML file (classes: [{name: road, color: [128, 64, 128]}, ...])",
}
"""Files that often name classes but have no fixed content, and the next step."""


def _table(
    lines: Numbered, columns: tuple[str, ...], parse: Callable[[int, int, str, Mapping[str, str]], SourceLabel | str]
) -> Entries:
    """The classes in the rows below the header, which must name the columns, in any order, possibly with others.

    Args:
        parse: a row, given its position, the number of the line, its text, and its cells by column in lower case.
    """
    separator = next((mark for mark in ",;\t" if lines and mark in lines[0][1]), ",")
    written = [(number, line, _cells(line, separator)) for number, line in lines]
    header = [name.lower() for name in written[0][2]] if written else []
    if not set(columns) <= set(header):
        yield f"the first line has to name the columns {', '.join(columns)}; got {short(', '.join(header))}"
        return
    filled = (row for row in written[1:] if any(row[2]))  # others are what spreadsheets leave behind
    for position, (number, line, cells) in enumerate(filled):
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) == len(header):
            yield parse(position, number, line, dict(zip(header, cells, strict=True)))
        else:
            yield f"line {number}: {short(line)}: {len(header)} columns are needed, as in the first line"


def _cells(line: str, separator: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
    except csv.Error:  # a cell of more than 131072 characters
        return [line]


def _label(number: int, line: str, name: str, value: int, color: Iterable[str] | None = None) -> SourceLabel | str:
    values = None if color is None else [part.strip() for part in color]
    if values is not None and (len(values) != 3 or not all(is_number(part, most=255) for part in values)):
        return f"line {number}: {short(line)}: a colour of three numbers from 0 to 255 is needed"
    name = name.strip()
    if not name:
        return f"line {number}: a class without a name"
    shown = None if values is None else (int(values[0]), int(values[1]), int(values[2]))
    return SourceLabel(name, value, shown, ignored=name.lower() in VOID_NAMES)


def _repeated(labels: Iterable[SourceLabel]) -> Iterator[str]:
    """What is wrong with two classes of the same value or colour."""
    seen: dict[int | Color, SourceLabel] = {}
    for label in labels:
        for what in (label.value, label.color):
            other = label if what is None else seen.setdefault(what, label)
            if other.name != label.name and not (other.ignored and label.ignored):
                pair = f"{short(other.name)} and {short(label.name)}"
                yield f"{pair} have the same value or colour, {what}; give each its own"
