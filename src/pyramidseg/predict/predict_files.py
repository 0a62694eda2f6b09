"""Prediction of files into a folder: checks every output path first, then streams the images through the pipeline."""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyramidseg.base.errors import DataError, OutputError
from pyramidseg.base.files import write_atomically
from pyramidseg.base.log import track
from pyramidseg.base.output_lock import locks_out
from pyramidseg.base.version import __version__
from pyramidseg.images.georeference import read_georeference
from pyramidseg.predict.outputs import WRITERS, is_ours, output_names
from pyramidseg.predict.pipeline import map_in_order, stage_threads
from pyramidseg.predict.predictor import PredictionResult, Predictor
from pyramidseg.predict.sources import Source, find_images
from pyramidseg.predict.tiling import Tiles

SUMMARY_FILE = "predictions.json"


@dataclass(frozen=True)
class PredictionEntry:
    """An image's entry in `predictions.json`.

    Attributes:
        outputs: path of each output by the name of its writer, relative to the output folder; empty with an error.
        size: height and width of the image.
        shares: share of the pixels by class name, largest first.
        tiles: how the image was divided; None if it was predicted whole.
        error: why the image could not be predicted.
    """

    image: Path
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


@dataclass
class PredictionSummary:
    """Counts of a finished prediction; `predictions.json` has one entry per image, in the order of the sources.

    Attributes:
        images: number of images.
        tiled: number of images that were predicted in tiles.
        failed: entries of the images that could not be predicted.
        last: entry of the last image.
    """

    out: Path
    images: int = 0
    tiled: int = 0
    failed: list[PredictionEntry] = field(default_factory=list)
    last: PredictionEntry | None = None

    def add(self, entry: PredictionEntry) -> None:
        """Count an entry. Only failed ones are kept, so that memory does not grow with the folder."""
        self.images += 1
        self.tiled += entry.tiles is not None
        self.last = entry
        if entry.error is not None:
            self.failed.append(entry)


@locks_out
def predict_files(
    predictor: Predictor,
    sources: Iterable[str | Path],
    out: str | Path,
    *,
    save: Sequence[str] = ("mask",),
    batch_size: int = 4,
) -> PredictionSummary:
    """Predict files, folders and patterns into a folder, with a `predictions.json` that lists the results.

    Class ids are always written as `<stem>.png`. Earlier predictions in the folder are replaced file by file; other
    files are never touched. An image that cannot be read becomes an entry with its error, and the others are predicted.
    Threads read ahead of the model and write after it. If it is interrupted, all files are complete, and
    `predictions.json` is as it was before.

    Args:
        save: further outputs, names in `WRITERS`.

    Raises:
        ConfigError: `save` has an unknown name.
        DataError: a source matches nothing, or `save` has `geotiff` and an image is not georeferenced.
        OutputError: two images share an output path, or an output would replace an input or a file that pyramidseg did
            not write (found before anything is computed); or the disk is full.
    """
    out = Path(out)
    names = output_names(save)
    images = find_images(sources, outside=out)
    _check_outputs(images, names, out)
    if _needs("georeference", names):
        _check_georeferenced(images)
    summary = PredictionSummary(out)

    def predict_into(part: Path) -> None:
        with closing(_predict(predictor, images, names, out, batch_size=batch_size)) as entries:
            tracked = track(entries, total=len(images), task="predicting")
            with part.open("w", encoding="utf-8") as file:
                for text in _summary_text(predictor.classes.names, tracked, summary):
                    file.write(text)

    write_atomically(out / SUMMARY_FILE, predict_into)
    return summary


def _predict(
    predictor: Predictor, images: Sequence[Source], names: Sequence[str], out: Path, *, batch_size: int
) -> Generator[PredictionEntry, None, None]:
    """Predict and write images; yields an entry once its files are written."""
    results = predictor.predict_results(
        (source.path for source in images),
        batch_size=batch_size,
        confidence=_needs("confidence", names),
        probabilities=_needs("probabilities", names),
    )
    writers = max(2, stage_threads())  # they mostly wait for the disk
    with (
        closing(results),
        closing(
            map_in_order(
                lambda item: _write(*item, names, out),
                zip(results, images, strict=True),
                threads=writers,
                ahead=2 * writers,
                pixels=lambda item: _result_pixels(item[0]),
                name="write",
            )
        ) as entries,
    ):
        yield from entries


def _write(result: PredictionResult, source: Source, names: Sequence[str], out: Path) -> PredictionEntry:
    """Write the outputs of one image; returns its entry."""
    if result.error is not None:
        return PredictionEntry(source.path, {}, error=str(result.error))
    segmentation, image = result.segmentation, result.image
    assert segmentation is not None and image is not None
    if _needs("georeference", names):
        segmentation = replace(segmentation, georeference=read_georeference(source.path))
    outputs = {}
    for name in names:
        output = _output_path(out, source, name)
        WRITERS[name].write(output, segmentation, image)
        outputs[name] = output.relative_to(out).as_posix()
    height, width = segmentation.labels.shape
    return PredictionEntry(source.path, outputs, (height, width), segmentation.shares(), result.tiles)


def _summary_text(
    classes: Sequence[str], entries: Iterable[PredictionEntry], summary: PredictionSummary
) -> Iterator[str]:
    """The text of `predictions.json` in parts, one line per image."""
    head = json.dumps({"pyramidseg": __version__, "classes": list(classes)}, ensure_ascii=False)
    yield head.removesuffix("}") + ', "images": ['
    for entry in entries:
        yield (",\n" if summary.images else "\n") + json.dumps(entry.to_dict(), ensure_ascii=False)
        summary.add(entry)
    yield "\n]}\n"


def _check_outputs(images: Sequence[Source], names: Sequence[str], out: Path) -> None:
    """Refuse output paths that collide with each other, with inputs or with foreign files, before anything is computed.

    Raises:
        OutputError: names the path and what it collides with.
    """
    inputs = {source.path.resolve(): source.path for source in images}
    outputs: dict[Path, Source] = {}
    for source in images:
        for name in names:
            output = _output_path(out, source, name)
            if output in outputs:
                raise OutputError(
                    f"{outputs[output].path} and {source.path} would both be written to {output}: predict them into "
                    "different folders, or rename one"
                )
            outputs[output] = source
            if (replaced := inputs.get(output.resolve())) is not None:
                raise OutputError(f"{output}: would overwrite the input {replaced}; choose another --out")
            if output.exists() and not is_ours(output):
                raise OutputError(f"{output}: exists and was not written by pyramidseg; choose another --out")
    summary = out / SUMMARY_FILE
    if summary.exists() and not is_ours(summary):
        raise OutputError(f"{summary}: exists and was not written by pyramidseg; choose another --out")


def _check_georeferenced(images: Sequence[Source]) -> None:
    """Refuse images without a georeference; unreadable ones get an entry with their error later.

    Raises:
        DataError: names the first image without a georeference.
    """
    for source in images:
        try:
            georeference = read_georeference(source.path)
        except DataError:
            continue
        if georeference is None:
            raise DataError(
                f"{source.path}: has no georeference, so it cannot be saved as a GeoTIFF; leave geotiff out of --save, "
                "or predict georeferenced images only"
            )


def _needs(attribute: str, names: Sequence[str]) -> bool:
    """Whether a writer needs an attribute of `Segmentation`."""
    return any(attribute in WRITERS[name].needs for name in names)


def _output_path(out: Path, source: Source, name: str) -> Path:
    return out / f"{source.stem}{WRITERS[name].suffix}"


def _result_pixels(result: PredictionResult) -> int:
    return 0 if result.segmentation is None else result.segmentation.labels.size
