"""`predictions.json`: one entry for each image, made from the ledger of an output folder."""

import importlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pyramidseg.base.errors import ConfigError, DataError, import_extra
from pyramidseg.base.files import write_atomically
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.remote_files import is_url
from pyramidseg.base.version import __version__
from pyramidseg.predict.output_folder import LEDGER_FOLDER, OutputFolder, open_output_folder

SUMMARY_FILE, PARQUET_FILE = "predictions.json", "predictions.parquet"

MODEL_KEY = "//model/"
"""Beginning of the keys of entries that hold the class names of a model, by its digest; no image has such a name."""

Entry = dict[str, Any]
"""An image in `predictions.json`: `image` (path or URL) and `error`; or `image`, `outputs` (path of each in the folder,
by the name of its writer), `height`, `width`, `classes` (share of the pixels by name), and `tile_px` and `overlap_px`
if it was predicted in tiles, `polygons` (their options, number and changed pixels) if these are an output, and `video`
(its options and numbers of frames; `classes` are then the means over its frames). An image read in windows has `scene`
(its options) and `nodata` (share without a label), and `outputs` and `error` if windows were unreadable."""

_SPECIAL_FIELDS = ("polygons", "video", "scene", "nodata")
_ENTRY_FIELDS = ("outputs", "height", "width", "tile_px", "overlap_px", "classes", *_SPECIAL_FIELDS, "error")
POLYGON_COUNTS = ("polygons", "merged_px", "moved_px", "invalid")
_PARQUET_ROWS = 2**14


@dataclass
class PredictionSummary:
    """Counts of a prediction; `predictions.json` has one entry per image, in the order of the sources.

    Attributes:
        images: number of images.
        tiled: number of images that were predicted in tiles.
        failed: entries of the images that could not be predicted.
        damaged: entries of videos with damaged or missing frames, or that ended with an error.
        last: entry of the last image.
        polygons: sums over the images of the numbers that `write_polygons` returns.
        unchanged: number of images that were predicted by an earlier call, and not again.
        skipped: images, rasters and videos in the folders whose types are not read.
    """

    out: str | Path
    images: int = 0
    tiled: int = 0
    failed: list[Entry] = field(default_factory=list)
    damaged: list[Entry] = field(default_factory=list)
    last: Entry | None = None
    polygons: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    skipped: list[Path] = field(default_factory=list)

    def count(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield entries as they are, and count them; only failed ones are kept."""
        for entry in entries:
            self.images += 1
            self.tiled += "tile_px" in entry
            self.last = entry
            counts = entry.get("polygons", {})
            self.polygons.update({name: counts[name] for name in POLYGON_COUNTS if name in counts})
            self.polygons["pixels"] += entry["height"] * entry["width"] if "polygons" in entry else 0
            if "error" in entry:
                self.failed.append(entry)
            elif (found := entry.get("video", {})) and (found["damaged"] or found["damaged_sound"] or found["ended"]):
                self.damaged.append(entry)
            yield entry


def entry_of(line: Mapping[str, Any], *, image: str = "") -> Entry:
    """The entry of a line of the ledger, which has more fields.

    Args:
        image: its present path or URL; by default that of the line.
    """
    return {"image": image or line["image"], **{name: line[name] for name in _ENTRY_FIELDS if name in line}}


def write_summary(folder: OutputFolder, classes: Sequence[str], entries: Iterable[Entry]) -> None:
    """Write `predictions.json`, one line for each entry as it comes."""

    def write(part: Path) -> None:
        # File names that are not UTF-8 become escapes that JSON knows.
        with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
            head = json.dumps({"pyramidseg": __version__, "classes": list(classes)}, ensure_ascii=False)
            file.write(head.removesuffix("}") + ', "images": [')
            for number, entry in enumerate(entries):
                file.write((",\n" if number else "\n") + json.dumps(entry, ensure_ascii=False))
            file.write("\n]}\n")

    folder.write(SUMMARY_FILE, lambda path: write_atomically(path, write))


def merge_predictions(out: str | Path, *, model: str = "", parquet: bool = False) -> PredictionSummary:
    """Write `predictions.json` of all images in the ledger of an output folder, in the order of their relative names.

    Args:
        model: beginning of a model's digest; the images of other models are left out.
        parquet: also write `predictions.parquet`, with a row for each image.

    Raises:
        DataError: there is no ledger, or it has images of several models and `model` does not choose one.
        OutputError: another process uses the folder, or `predictions.json` was not written by pyramidseg.
        MissingExtra: pyarrow is not installed.
    """
    if not is_url(out) and not (Path(out) / LEDGER_FOLDER).is_dir():
        raise DataError(f"{out}: holds no ledger of predictions; give the folder that was the `out` of predict")
    summary = PredictionSummary(out)
    with open_output_folder(out) as folder, folder.open_ledger() as ledger:
        folder.remove_leftovers()
        folder.refuse_foreign(SUMMARY_FILE)
        chosen = _choose_model(ledger, model, str(out))
        classes = (ledger.find(MODEL_KEY + chosen) or {}).get("classes", [])
        write_summary(folder, classes, summary.count(_entries(ledger, chosen)))
        if parquet:
            folder.write(PARQUET_FILE, lambda path: _write_parquet(path, _entries(ledger, chosen)))
    return summary


def _entries(ledger: Ledger, model: str) -> Iterator[Entry]:
    for line in ledger.entries():
        if line.get("model") == model:
            yield entry_of(line)


def _choose_model(ledger: Ledger, wanted: str, out: str) -> str:
    """The digest of the only model in a ledger, or of the one that is wanted."""
    counts = Counter(str(line["model"]) for line in ledger.entries() if "model" in line)
    if not counts:
        raise DataError(f"{out}: its ledger has no images")
    chosen = [name for name in counts if name.startswith(wanted)]
    if len(chosen) == 1:
        return chosen[0]
    found = ", ".join(f"{name[:8]} ({count} images)" for name, count in counts.most_common(4))
    if wanted and not chosen:
        raise ConfigError(f"`model={wanted}`: the ledger has no such model; it has {found}")
    most = counts.most_common(1)[0][0][:8]
    raise ConfigError(
        f"{out}: holds predictions of several models: {found}; choose one with `model={most!r}`, or predict all images "
        "with one model"
    )


def _write_parquet(path: Path, entries: Iterator[Entry]) -> None:
    """A row for each entry, with the fields of `predictions.json`; some thousand rows at a time."""
    pa = import_extra("pyarrow", extra="parquet", purpose="writing Parquet")
    parquet = importlib.import_module("pyarrow.parquet")
    pairs, shares = pa.map_(pa.string(), pa.string()), pa.map_(pa.string(), pa.float64())
    fields = {"image": pa.string(), "outputs": pairs, "classes": shares, "error": pa.string()}
    fields |= {name: pa.int32() for name in ("height", "width", "tile_px", "overlap_px")}
    schema = pa.schema(list(fields.items()))

    def write(part: Path) -> None:
        with parquet.ParquetWriter(part, schema) as file:
            while rows := list(islice(entries, _PARQUET_ROWS)):
                for row in rows:
                    for name in _SPECIAL_FIELDS:
                        row.pop(name, None)
                    row |= {name: list(row[name].items()) for name in ("outputs", "classes") if name in row}
                file.write_table(pa.Table.from_pylist(rows, schema=schema))

    write_atomically(path, write)
