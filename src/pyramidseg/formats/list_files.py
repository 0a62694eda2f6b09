"""Files that list images by split: `train.txt`, `val_list.csv`, `list_test.lst`, `split.csv` with a column of splits.

A line names an image, or an image and its mask. Columns are separated by comma, semicolon, tab, bar or space; which
column holds the images, the masks or the splits is decided by their content, so that headers need no fixed names.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import is_file, resolve_inside
from pyramidseg.base.text_files import read_text
from pyramidseg.formats.dataset_format import RARE_VAL_NAMES, SPLIT_NAMES, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.paths import content, without_leading_folders
from pyramidseg.images.image_files import IMAGE_EXTENSIONS, is_array_name, is_image_name

MAX_BYTES = 2**26
"""Larger files are refused; a list of a million names is smaller."""

Row = tuple[str, ...]

_LISTS = (".txt", ".lst", ".list", "")
_READABLE = (*_LISTS, ".csv", ".tsv", ".json")
_UNREADABLE = (".npy", ".npz", ".pkl", ".pickle", ".mat", ".xls", ".xlsx", ".parquet")
_WORDS = r"(?:lists?|ids?|sets?|splits?|files?|filenames?|names?|images?|imgs?|pairs?|paths?|data|seg|segmentation)"
_HEADER = re.compile(rf"[\W_]*(?:(?:{_WORDS}|masks?|labels?|annotations?|subset|img|index)[\W_]*)+", re.IGNORECASE)
_AFTER_IMAGE = re.compile(rf"({'|'.join(map(re.escape, IMAGE_EXTENSIONS))})\s*[\s,;|]\s*", re.IGNORECASE)
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}


SplitList = tuple[Path, tuple[Row, ...] | None]
"""A file of a split, and its lines if it is a table of several splits; without lines if it cannot be used."""


def find_lists(
    places: Sequence[Path], splits: SplitNames, is_image: Callable[[str], bool]
) -> tuple[dict[str, SplitList], tuple[Defect, ...], tuple[str, ...]]:
    """The list of each split, defects of files that are named like a list and cannot be used, and notes on unread ones.

    `train.txt` comes before other names of one split; of several others none is chosen. Where no file is named like a
    split, a table with a column of splits decides.

    Args:
        is_image: whether a text of a line names an image of the dataset.
    """
    files = [path for place in places for path in content(place) if path.suffix.lower() in (*_READABLE, *_UNREADABLE)]
    files = [path for path in files if path.suffix.lower() != ".json" or json_kind(path) in (None, "damaged")]
    files = [path for path in files if path.suffix or path.is_file()]
    found: dict[str, SplitList] = {}
    defects, notes = list[Defect](), list[str]()
    for split, names in splits.items():
        if split == "val" and "train" in found and not any(_named(files, names)):
            names = (*names, *RARE_VAL_NAMES)
        exact, other = _named(files, names)
        chosen = exact[:1] or other or _by_content(files, names, is_image)
        if len(chosen) > 1:
            detail = f"lists images of {split}, and so does {chosen[0].name}; keep one, or rename it {names[0]}.txt"
            defects.append(Defect(DefectKind.RIVAL_ANNOTATION, chosen[1], detail))
        elif chosen and chosen[0].suffix.lower() in _UNREADABLE:
            detail = f"is named like the list of {split} and its type is not read; write the names to {names[0]}.txt"
            defects.append(Defect(DefectKind.BAD_ANNOTATION, chosen[0], f"{detail}, or move the file away"))
        if chosen:
            found[split] = chosen[0], () if defects and defects[-1].file in chosen else None
            lists = (path for path in files if path.suffix.lower() in _LISTS and path not in chosen)
            unread = [path for path in lists if _mentions(path, SPLIT_NAMES.get(split, names))]
            name = chosen[0].name
            notes += [f"{path} is not read, because there is {name}; rename it {name} to use it" for path in unread]
    if found:
        return found, tuple(defects), tuple(notes)
    tables = [path for path in files if path.suffix.lower() in (".csv", ".tsv", ".json") or _is_table(path)]
    for file in tables:
        if by_split := _by_split(file, is_image):
            return {split: (file, tuple(rows)) for split, rows in by_split.items()}, (), ()
        if _is_table(file):
            detail = "is named like a table of splits; it needs a column of images and one of train, val or test"
            defects.append(Defect(DefectKind.BAD_ANNOTATION, file, detail))
    return {}, tuple(defects), ()


def read_rows(file: Path) -> list[Row]:
    """The columns of each line, without empty lines and comments.

    Raises:
        DefectError: it is not text, or not JSON with a list of names or a list for each split.
    """
    text = read_text(file, most=MAX_BYTES)
    if file.suffix.lower() == ".json":
        return _json_rows(file, text)
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if file.suffix.lower() in (".csv", ".tsv") and lines:
        separator = max("\t,;|", key=lines[0].count)
        return [tuple(cell.strip() for cell in row) for row in csv.reader(lines, delimiter=separator)]
    return [_columns(line) for line in lines]


def column(rows: Sequence[Row], fits: Callable[[str], bool]) -> int | None:
    """The first column that fits about best, preferring names with an extension; None if no cell fits."""
    width = max(map(len, rows), default=0)
    counts = [sum(fits(row[at]) for row in rows if at < len(row)) for at in range(width)]
    best = [at for at, count in enumerate(counts) if count and 2 * count >= max(counts)]
    with_extension = (at for at in best if any(has_image_name(row[at]) for row in rows if at < len(row)))
    return next(with_extension, best[0] if best else None)


def without_header(rows: Sequence[Row], fits: Callable[[str], bool]) -> Sequence[Row]:
    """The rows without a first one that holds titles of columns such as `image` and `mask_path`."""
    is_header = (
        bool(rows) and not any(map(fits, rows[0])) and all(not cell or _HEADER.fullmatch(cell) for cell in rows[0])
    )
    return rows[1:] if is_header else rows


def has_image_name(path: str) -> bool:
    """Whether a path, with slashes of either kind, ends in the name of an image file or of an array."""
    name = re.split(r"[/\\]", path)[-1]
    return is_image_name(name) or is_array_name(name)


def listed_file(name: str, *, file: Path, root: Path) -> Path | None:
    """The file of a name in a list: relative to the list, to the dataset or, with a leading slash, to either.

    The leading folders of an absolute path of another machine are left out one by one, those of a relative one as long
    as a folder is left. Nothing outside `root` is found.
    """
    if not has_image_name(name):
        return None
    below = (text for text in without_leading_folders(f"/{name}") if "/" in text)
    for text in dict.fromkeys((name, *without_leading_folders(name), *below, unquote(name))):
        for folder in dict.fromkeys((file.parent, root)):
            try:
                path = resolve_inside(text, folder=folder, root=root, where=file)
            except DataError:
                continue
            if is_file(path):
                return path
    return None


def _named(files: Sequence[Path], names: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Text files called like a split and, second, files whose name has only words such as `list` in addition."""
    exact = [path for name in names for path in files if path.name.lower() == f"{name}.txt"]
    either = "|".join(map(re.escape, names))
    pattern = re.compile(rf"(?:{_WORDS}[\W_]*)*(?:{either})(?:[\W_]*{_WORDS})*", re.IGNORECASE)
    return exact, [path for path in files if path not in exact and pattern.fullmatch(path.stem)]


def _mentions(file: Path, names: Sequence[str]) -> bool:
    """Whether a file's name has a word of the split, and none of another split."""
    pattern = re.compile(rf"(?<![a-z])(?:{'|'.join(map(re.escape, names))})(?![a-z])", re.IGNORECASE)
    words = set(re.split(r"[\W_]+", file.stem.lower()))
    return bool(pattern.search(file.stem)) and not words & _SPLIT_OF.keys() - set(names)


def _by_content(files: Sequence[Path], names: Sequence[str], is_image: Callable[[str], bool]) -> list[Path]:
    """Files with the split and anything else in the name (`fold1_train.txt`), if most of their lines name images."""
    found: list[Path] = []
    for path in files:
        if path.suffix.lower() in _READABLE and _mentions(path, names):
            try:
                rows = read_rows(path)
            except DataError:
                continue
            if 2 * sum(any(map(is_image, row)) for row in rows) > len(rows):
                found.append(path)
    return found


def _is_table(file: Path) -> bool:
    return bool(re.fullmatch(r"(?:data|dataset|train|val|test|[\W_])*splits?", file.stem, re.IGNORECASE))


def _by_split(file: Path, is_image: Callable[[str], bool]) -> dict[str, list[Row]]:
    """The lines of a table by split; none if it has no column of splits next to one of images."""
    try:
        rows = without_header(read_rows(file), is_image)
    except DataError:
        return {}
    at = column(rows, lambda cell: cell.lower() in _SPLIT_OF)
    images = column(rows, is_image)
    if at is None or images is None or not all(len(row) > at and row[at].lower() in _SPLIT_OF for row in rows):
        return {}
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(_SPLIT_OF[row[at].lower()], []).append((*row[:at], *row[at + 1 :]))
    return {split: found[split] for split in SPLIT_NAMES if split in found}


def _columns(line: str) -> Row:
    """`images/a b.jpg masks/a b.png`: a separator after the extension of an image counts first, then any other."""
    if '"' in line:  # CVAT quotes names with spaces
        return tuple(quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([^\s,;|"]+)', line))
    marked = _AFTER_IMAGE.sub(r"\1\t", line)
    parts = marked.split("\t") if "\t" in marked else re.split(r"[,;|]", line)
    return tuple(part.strip() for part in parts)


def _json_rows(file: Path, text: str) -> list[Row]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value and all(isinstance(names, list) for names in value.values()):
        value = [[name, split] for split, names in value.items() for name in names]
    if isinstance(value, list):
        rows = [
            list(row.values()) if isinstance(row, dict) else row if isinstance(row, list) else [row] for row in value
        ]
        if all(isinstance(cell, (str, int)) for row in rows for cell in row):
            return [tuple(map(str, row)) for row in rows]
    detail = 'is not a list of images; write ["a.jpg", "b.jpg"] or {"train": ["a.jpg"], "val": ["b.jpg"]}'
    raise DefectError(DefectKind.BAD_ANNOTATION, file, detail)
