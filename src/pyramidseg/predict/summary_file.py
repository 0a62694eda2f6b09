"""`predictions.json`: one entry for each image, made from the ledger of an output folder."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pyramidseg.base.errors import ConfigError, DataError, MissingExtra, OutputError
from pyramidseg.base.files import write_atomically
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.remote_files import is_url
from pyramidseg.base.version import __version__
from pyramidseg.predict.output_folder import LEDGER_FOLDER, OutputFolder, open_output_folder
from pyramidseg.predict.tiling import Tiles

SUMMARY_FILE, PARQUET_FILE = "predictions.json", "predictions.parquet"

MODEL_KEY = "//model/"
"""Beginning of the keys of entries that hold the class names of a model, by its digest; no image has such a name."""

_PARQUET_ROWS = 2**14


@dataclass(frozen=True)
class PredictionEntry:
    """An image's entry in `predictions.json`.

    Attributes:
        image: path, or URL.
        outputs: path of each output by the name of its writer, relative to the output folder; empty with an error.
        size: height and width of the image.
        shares: share of the pixels by class name, largest first.
        tiles: how the image was divided; None if it was predicted whole.
        error: why the image could not be predicted.
    """

    image: Path | str
    outputs: Mapping[str, str]
    size: tuple[int, int] | None = None
    shares: Mapping[str, float] | None = None
    tiles: Tiles | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry as in the file."""
        if self.error is not None or self.size is None or self.shares is None:
            return {"image": str(self.image), "error": self.error}
        height, width = self.size
        tiles = {"tile_px": self.tiles.tile_px, "overlap_px": self.tiles.overlap_px} if self.tiles else {}
        return {
            "image": str(self.image),
            "outputs": dict(self.outputs),
            "height": height,
            "width": width,
            **tiles,
            "classes": dict(self.shares),
        }

    @classmethod
    def from_dict(cls, line: Mapping[str, Any], *, image: str | None = None) -> "PredictionEntry":
        """The entry of a line of the ledger, which has more fields.

        Args:
            image: its present path or URL; by default that of the line.
        """
        location = line["image"] if image is None else image
        place = location if is_url(location) else Path(location)
        if line.get("error") is not None:
            return cls(place, {}, error=line["error"])
        tiles = Tiles(line["tile_px"], line["overlap_px"]) if "tile_px" in line else None
        return cls(place, line["outputs"], (line["height"], line["width"]), line["classes"], tiles)


def write_summary(folder: OutputFolder, classes: Sequence[str], entries: Iterable[PredictionEntry]) -> None:
    """Write `predictions.json`, one line for each entry as it comes."""

    def write(part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            head = json.dumps({"pyramidseg": __version__, "classes": list(classes)}, ensure_ascii=False)
            file.write(head.removesuffix("}") + ', "images": [')
            for number, entry in enumerate(entries):
                file.write((",\n" if number else "\n") + _to_json(entry.to_dict()))
            file.write("\n]}\n")

    folder.write(SUMMARY_FILE, lambda path: write_atomically(path, write))


def merge_predictions(out: str | Path, *, model: str = "", parquet: bool = False) -> Counter[str]:
    """Write `predictions.json` of all images in the ledger of an output folder, in the order of their relative names.

    Args:
        model: beginning of a model's digest; the images of other models are left out.
        parquet: also write `predictions.parquet`, with a row for each image.

    Returns:
        The number of images, as `images`, and of those that could not be predicted, as `failed`.

    Raises:
        DataError: there is no ledger, or it has images of several models and `model` does not choose one.
        OutputError: another process uses the folder, or `predictions.json` was not written by pyramidseg.
        MissingExtra: pyarrow is not installed.
    """
    if not is_url(out) and not (Path(out) / LEDGER_FOLDER).is_dir():
        raise DataError(f"{out}: holds no ledger of predictions; give the folder that was the --out of predict")
    counts: Counter[str] = Counter()
    with open_output_folder(out) as folder, folder.open_ledger() as ledger:
        folder.remove_leftovers()
        if folder.is_foreign(SUMMARY_FILE, known=False):
            raise OutputError(f"{out}: holds a {SUMMARY_FILE} that was not written by pyramidseg; move it away")
        chosen = _choose_model(ledger, model, str(out))
        classes = (ledger.find(MODEL_KEY + chosen) or {}).get("classes", [])

        def counted() -> Iterator[PredictionEntry]:
            for entry in _entries(ledger, chosen):
                counts["images"] += 1
                counts["failed"] += entry.error is not None
                yield entry

        write_summary(folder, classes, counted())
        if parquet:
            folder.write(PARQUET_FILE, lambda path: _write_parquet(path, _entries(ledger, chosen)))
    return counts


def _entries(ledger: Ledger, model: str) -> Iterator[PredictionEntry]:
    for line in ledger.entries():
        if line.get("model") == model and not line["key"].startswith(MODEL_KEY):
            yield PredictionEntry.from_dict(line)


def _choose_model(ledger: Ledger, wanted: str, out: str) -> str:
    """The digest of the only model in a ledger, or of the one that is wanted.

    Raises:
        DataError: the ledger is empty.
        ConfigError: it has several models, and `wanted` does not choose one of them.
    """
    counts = Counter(str(line.get("model")) for line in ledger.entries() if not line["key"].startswith(MODEL_KEY))
    if not counts:
        raise DataError(f"{out}: its ledger has no images")
    chosen = [name for name in counts if name.startswith(wanted)]
    if len(chosen) == 1:
        return chosen[0]
    found = ", ".join(f"{name[:8]} ({count} images)" for name, count in counts.most_common(4))
    if wanted and not chosen:
        raise ConfigError(f"--model {wanted}: the ledger has no such model; it has {found}")
    most = counts.most_common(1)[0][0][:8]
    raise ConfigError(
        f"{out}: holds predictions of several models: {found}; choose one with --model {most}, or predict all images "
        "with one model"
    )


def _write_parquet(path: Path, entries: Iterator[PredictionEntry]) -> None:
    """A row for each entry, with the fields of `predictions.json`; some thousand rows at a time.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", extra="parquet", purpose="writing Parquet") from None
    pairs, shares = pa.map_(pa.string(), pa.string()), pa.map_(pa.string(), pa.float64())
    fields = {"image": pa.string(), "outputs": pairs, "classes": shares, "error": pa.string()}
    fields |= {name: pa.int32() for name in ("height", "width", "tile_px", "overlap_px")}
    schema = pa.schema(list(fields.items()))

    def write(part: Path) -> None:
        with parquet.ParquetWriter(part, schema) as file:
            while rows := [entry.to_dict() for entry in islice(entries, _PARQUET_ROWS)]:
                for row in rows:
                    row |= {name: list(row[name].items()) for name in ("outputs", "classes") if name in row}
                file.write_table(pa.Table.from_pylist(rows, schema=schema))

    write_atomically(path, write)


def _to_json(value: Any) -> str:
    """JSON with readable letters; file names that are not valid UTF-8 are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text) else json.dumps(value)
