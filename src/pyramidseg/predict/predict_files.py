"""Prediction of files into a folder: every place to write is checked first, then images pass through the pipeline."""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pyramidseg.base.errors import ConfigError, DataError, OutputError, nearest
from pyramidseg.base.files import write_atomically
from pyramidseg.base.log import track
from pyramidseg.base.version import __version__
from pyramidseg.images.georeference import read_georeference
from pyramidseg.predict.outputs import WRITERS, is_ours
from pyramidseg.predict.pipeline import in_order, stage_threads
from pyramidseg.predict.predictor import PredictionResult, Predictor
from pyramidseg.predict.sources import Source, find_images
from pyramidseg.predict.tiling import Tiles

T = TypeVar("T")

SUMMARY_FILE = "predictions.json"

PLACED = "geotiff"
"""The output that needs the image's place on a map."""


class Track(Protocol):
    """Shows progress while handing items on; `console.Console.track` is one."""

    def __call__(self, items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
        """The same items."""
        ...


@dataclass(frozen=True)
class Prediction:
    """An image's entry in `predictions.json`.

    Attributes:
        outputs: file by the name of its writer, relative to the output folder; empty if there is an error.
        size: height and width of the image.
        shares: share of the pixels by class name, largest first.
        tiles: how it was cut; None if it was predicted whole.
        error: why the image could not be predicted.
    """

    image: Path
    outputs: Mapping[str, str]
    size: tuple[int, int] | None = None
    shares: Mapping[str, float] | None = None
    tiles: Tiles | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file."""
        if self.error is not None or self.size is None or self.shares is None:
            return {"image": str(self.image), "error": self.error}
        height, width = self.size
        cut = {"tile_px": self.tiles.tile_px, "overlap_px": self.tiles.overlap_px} if self.tiles else {}
        return {
            "image": str(self.image),
            "outputs": dict(self.outputs),
            "height": height,
            "width": width,
            **cut,
            "classes": dict(self.shares),
        }


@dataclass
class PredictionSummary:
    """What was done; `predictions.json` has one entry an image, in the order of the sources.

    Attributes:
        images: how many there were.
        tiled: how many of them were predicted in tiles.
        failed: those that could not be predicted.
        last: the last image's entry.
    """

    out: Path
    images: int = 0
    tiled: int = 0
    failed: list[Prediction] = field(default_factory=list)
    last: Prediction | None = None

    def add(self, entry: Prediction) -> None:
        """One more image. Only what failed is kept: memory must not grow with the folder."""
        self.images += 1
        self.tiled += entry.tiles is not None
        self.last = entry
        if entry.error is not None:
            self.failed.append(entry)


def predict_files(
    predictor: Predictor,
    sources: Iterable[str | Path],
    out: str | Path,
    *,
    save: Sequence[str] = ("mask",),
    batch_size: int = 4,
) -> PredictionSummary:
    """Predict files, folders and patterns into a folder, with `predictions.json` beside the outputs.

    Class ids as `<stem>.png` are always written. Earlier predictions in the folder are replaced file by file;
    anything else is left alone. An image that cannot be read becomes an entry with its error, and the others go on.
    Threads read ahead of the model and write behind it. Whatever ends it early leaves whole files only, and
    `predictions.json` as it was.

    Args:
        save: further outputs, names in `WRITERS`.

    Raises:
        ConfigError: `save` names an unknown output.
        DataError: a source matches nothing, or `save` names `geotiff` and an image has no place on a map.
        OutputError: two images share an output, or an output would replace an input or a file of somebody else's;
            found before anything is computed. Or the disk is full.
    """
    out = Path(out)
    names = _output_names(save)
    images = find_images(sources, outside=out)
    _check_outputs(images, names, out)
    if PLACED in names:
        _refuse_unplaced(images)
    summary = PredictionSummary(out)

    def predict_into(part: Path) -> None:
        with closing(_predictions(predictor, images, names, out, batch_size=batch_size)) as entries:
            tracked = entries if track is None else track(entries, total=len(images), task="predicting")
            with part.open("w", encoding="utf-8") as file:
                for text in _summary_text(predictor.classes.names, tracked, summary):
                    file.write(text)

    write_atomically(out / SUMMARY_FILE, predict_into)
    return summary


def _predictions(
    predictor: Predictor, images: Sequence[Source], names: Sequence[str], out: Path, *, batch_size: int
) -> Generator[Prediction, None, None]:
    """Predict and write; an entry comes once its files are there."""
    outcomes = predictor.outcomes(
        (source.path for source in images),
        batch_size=batch_size,
        confidence="confidence" in names,
        probabilities="probabilities" in names,
    )
    # Two writers at least: they mostly wait for the disk.
    writers = max(2, stage_threads())
    with (
        closing(outcomes),
        closing(
            in_order(
                lambda item: _written(*item, names, out),
                zip(outcomes, images, strict=True),
                threads=writers,
                ahead=2 * writers,
                pixels=lambda item: _pixels_behind(item[0]),
                name="write",
            )
        ) as entries,
    ):
        yield from entries


def _pixels_behind(outcome: PredictionResult) -> int:
    return 0 if outcome.segmentation is None else outcome.segmentation.labels.size


def _summary_text(classes: Sequence[str], entries: Iterable[Prediction], summary: PredictionSummary) -> Iterator[str]:
    """`predictions.json`, piece by piece, with an image in a line."""
    head = json.dumps({"pyramidseg": __version__, "classes": list(classes)}, ensure_ascii=False)
    yield head.removesuffix("}") + ', "images": ['
    for entry in entries:
        yield (",\n" if summary.images else "\n") + json.dumps(entry.to_dict(), ensure_ascii=False)
        summary.add(entry)
    yield "\n]}\n"


def _output_names(save: Sequence[str]) -> tuple[str, ...]:
    """`mask` and what was asked for, each once."""
    for name in save:
        if name not in WRITERS:
            raise ConfigError(f"save={name}: no such output; {nearest(name, WRITERS)}")
    return tuple(dict.fromkeys(("mask", *save)))


def _check_outputs(images: Sequence[Source], names: Sequence[str], out: Path) -> None:
    """Refuse collisions, inputs in the way, and foreign files in the way, before anything is computed."""
    inputs = {source.path.resolve(): source.path for source in images}
    taken: dict[Path, Source] = {}
    for source in images:
        for name in names:
            output = _output(out, source, name)
            if output in taken:
                raise OutputError(
                    f"{taken[output].path} and {source.path} would both be written to {output}: predict them into "
                    "different folders, or rename one"
                )
            taken[output] = source
            if (replaced := inputs.get(output.resolve())) is not None:
                raise OutputError(f"{output}: would overwrite the input {replaced}; choose another --out")
            if output.exists() and not is_ours(output):
                raise OutputError(
                    f"{output}: exists and was not written by pyramidseg, so it stays; choose another --out"
                )
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: a file, not a folder; choose another --out")
    summary = out / SUMMARY_FILE
    if summary.exists() and not is_ours(summary):
        raise OutputError(f"{summary}: exists and was not written by pyramidseg; choose another --out")


def _refuse_unplaced(images: Sequence[Source]) -> None:
    """Refuse images that do not say where on a map they lie; what cannot be read is told in its own entry."""
    for source in images:
        try:
            place = read_georeference(source.path)
        except DataError:
            continue
        if place is None:
            raise DataError(
                f"{source.path}: does not say where on a map it lies, so it has no GeoTIFF; leave {PLACED} out of "
                "--save, or name GeoTIFF images only"
            )


def _output(out: Path, source: Source, name: str) -> Path:
    return out / f"{source.stem}{WRITERS[name].suffix}"


def _written(outcome: PredictionResult, source: Source, names: Sequence[str], out: Path) -> Prediction:
    """Write what one image asks for, and its entry."""
    if outcome.error is not None:
        return Prediction(source.path, {}, error=str(outcome.error))
    segmentation, image = outcome.segmentation, outcome.image
    assert segmentation is not None and image is not None
    if PLACED in names:
        segmentation = replace(segmentation, place=read_georeference(source.path))
    outputs = {}
    for name in names:
        output = _output(out, source, name)
        WRITERS[name].write(output, segmentation, image)
        outputs[name] = output.relative_to(out).as_posix()
    height, width = segmentation.labels.shape
    return Prediction(source.path, outputs, (height, width), segmentation.shares(), outcome.tiles)
