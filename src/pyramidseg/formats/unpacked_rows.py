"""Images and masks in the rows of Parquet and Arrow files, unpacked to files in the cache folder."""

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError, PyramidSegError, import_extra
from pyramidseg.base.files import digest, explained_writes, file_state, make_folder, remove_leftovers, temporary_folder
from pyramidseg.base.remote_files import CACHE_VARIABLE, cache_folder
from pyramidseg.base.safe_paths import short
from pyramidseg.images.image_files import is_image_name

BATCH = 16
"""Rows that are in memory at a time."""

WITHOUT_MASK = "without_mask.json"
_UNUSABLE = re.compile(r"[^-.\w]")
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"II*\x00": ".tif", b"MM\x00*": ".tif", b"BM": ".bmp", b"RIFF": ".webp"}


def read_columns(file: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of a file, by its schema and by the features that `datasets` stores with it.

    Returns:
        The columns of images or arrays, and the names of classes if one column of lists of labels has them.

    Raises:
        MissingExtra: pyarrow is not installed.
        DataError: the file is damaged.
    """
    with _opened(file) as (schema, _):
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        types = {field.name: str(getattr(field.type, "storage_type", field.type)) for field in schema}
        features = stored.get("info", {}).get("features", {}).values()
        inner = (feature.get("feature") for feature in features if isinstance(feature, dict))
        lists = [one for one in inner if isinstance(one, dict)]
        named = [one["names"] for one in lists if one.get("_type") == "ClassLabel"]
    images = [
        name
        for name, kind in types.items()
        if {"bytes:", "path:"} <= set(re.split(r"[<\s]", kind)) or kind.endswith("binary") or kind.count("list<") == 2
    ]
    return tuple(images), tuple(map(str, named[0])) if len(named) == 1 else ()


def unpack(files: Mapping[str, Sequence[Path]], image: str, mask: str) -> tuple[Path, Mapping[str, int]]:
    """Write the images and masks of all rows to files, unless they are in the cache.

    Returns:
        A folder with `{split}/images` and `{split}/masks`, whose files are named by the number of the row and the name
        in the data; and the number of rows without a mask by split.

    Raises:
        MissingExtra: pyarrow is not installed.
        DataError: a file is damaged, or a row has no image; or no cache folder can be made.
    """
    cache = cache_folder()
    if cache is None:
        first = next(iter(files.values()))[0]
        raise DataError(f"{first}: its images have to be unpacked to files; set {CACHE_VARIABLE} to a folder for them")
    states = [(split, file_state(file)[:3]) for split, some in files.items() for file in some]
    folder = cache / "datasets" / digest([image, mask, *states])[:20]
    if not folder.is_dir():
        make_folder(folder.parent)
        remove_leftovers(folder.parent)
        with explained_writes(folder), temporary_folder(folder) as temporary:
            part = temporary / "rows"
            without = {split: _unpack_split(some, image, mask, part / split) for split, some in files.items()}
            (part / WITHOUT_MASK).write_text(json.dumps(without), encoding="utf-8")
            try:
                part.rename(folder)
            except OSError:
                if not folder.is_dir():  # by another process, which was faster
                    raise
    return folder, json.loads((folder / WITHOUT_MASK).read_text(encoding="utf-8"))


def _unpack_split(files: Sequence[Path], image: str, mask: str, out: Path) -> int:
    """Returns the number of rows without a mask."""
    for kind in ("images", "masks"):
        make_folder(out / kind)
    without = 0
    for number, (own, labels) in enumerate(row for file in files for row in _rows(file, image, mask)):
        without += labels is None
        if labels is not None:
            path = PureWindowsPath(str(own.get("path") or "") if isinstance(own, dict) else "")
            name = f"{number:06d}_{_UNUSABLE.sub('_', path.stem)[-100:]}".rstrip("_")
            for kind, value in (("images", own), ("masks", labels)):
                suffix, content = _file_of(value, f"{kind[:-1]} of row {number}", files[0])
                (out / kind / f"{name}{suffix}").write_bytes(content)
    return without


def _rows(file: Path, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Some columns of each row: a mapping of bytes and path, bytes, or lists."""
    with _opened(file) as (_, batches):
        for batch in batches(columns):
            found = (batch.column(name) for name in columns)
            yield from zip(*(getattr(column, "storage", column).to_pylist() for column in found), strict=True)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, Callable[[Sequence[str]], Iterator[Any]]]]:
    """The schema of a file, and a function that reads some columns batch by batch."""
    purpose, kind = f"reading {file}", "Arrow" if file.suffix.lower() == ".arrow" else "Parquet"
    arrow = import_extra("pyarrow", extra="parquet", purpose=purpose)
    try:
        if kind == "Arrow":
            with arrow.memory_map(str(file)) as source, arrow.ipc.open_stream(source) as stream:
                slices = (batch.slice(at, BATCH) for batch in stream for at in range(0, batch.num_rows, BATCH))
                yield stream.schema, lambda _: slices
        else:
            with import_extra("pyarrow.parquet", extra="parquet", purpose=purpose).ParquetFile(file) as source:
                yield source.schema_arrow, lambda names: source.iter_batches(BATCH, columns=[*names])
    except PyramidSegError:
        raise
    except Exception as error:  # a decoder raises nearly any exception for damaged data
        detail = f"cannot be read as {kind}: {' '.join(str(error).split())[:160]}; replace or remove it"
        raise DefectError(DefectKind.DAMAGED, file, detail) from error


def _file_of(value: Any, where: str, file: Path) -> tuple[str, bytes]:
    """Suffix and content of the file for a value."""
    if isinstance(value, list):
        stream = io.BytesIO()
        try:
            np.save(stream, np.array(value))
        except ValueError:
            detail = f"the {where} has rows of different lengths; make them equal"
            raise DefectError(DefectKind.UNREADABLE_MASK, file, detail) from None
        return ".npy", stream.getvalue()
    content, path = (value.get("bytes"), str(value.get("path") or "")) if isinstance(value, dict) else (value, "")
    if not isinstance(content, bytes):
        detail = f"the {where} is not in the file, only its path ({short(path)}); save it with datasets' save_to_disk"
        raise DefectError(DefectKind.ABSENT, file, detail)
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if content.startswith(start)), ".png")
    return PureWindowsPath(path).suffix if is_image_name(path) else suffix, content
