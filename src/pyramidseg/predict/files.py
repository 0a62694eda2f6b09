"""Prediction of files into a folder: every place to write is checked first, then images pass one after the other."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyramidseg
from pyramidseg.errors import ConfigError, OutputError, nearest
from pyramidseg.files import write_text
from pyramidseg.predict.predictor import Outcome, Predictor
from pyramidseg.predict.sources import Source, find_images
from pyramidseg.predict.writers import WRITERS, is_ours

T = TypeVar("T")

SUMMARY_FILE = "predictions.json"


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
        error: why the image could not be predicted.
    """

    image: Path
    outputs: Mapping[str, str]
    size: tuple[int, int] | None = None
    shares: Mapping[str, float] | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file."""
        if self.error is not None or self.size is None or self.shares is None:
            return {"image": str(self.image), "error": self.error}
        height, width = self.size
        return {
            "image": str(self.image),
            "outputs": dict(self.outputs),
            "height": height,
            "width": width,
            "classes": dict(self.shares),
        }


@dataclass(frozen=True)
class PredictionSummary:
    """What was done: one entry an image, in the order of the sources."""

    out: Path
    predictions: tuple[Prediction, ...]

    @property
    def failed(self) -> tuple[Prediction, ...]:
        """Images that could not be predicted."""
        return tuple(entry for entry in self.predictions if entry.error is not None)


def predict_files(
    predictor: Predictor,
    sources: Iterable[str | Path],
    out: str | Path,
    *,
    save: Sequence[str] = ("mask",),
    batch_size: int = 4,
    track: Track | None = None,
) -> PredictionSummary:
    """Predict files, folders and patterns into a folder, with `predictions.json` beside the outputs.

    Class ids as `<stem>.png` are always written. Earlier predictions in the folder are replaced file by file;
    anything else is left alone. An image that cannot be read becomes an entry with its error, and the others go on.

    Args:
        save: further outputs, names in `WRITERS`.

    Raises:
        ConfigError: `save` names an unknown output.
        DataError: a source matches nothing.
        OutputError: two images share an output, or an output would replace an input or a file of somebody else's;
            found before anything is computed. Or the disk is full.
    """
    out = Path(out)
    names = _output_names(save)
    images = find_images(sources, outside=out)
    _check_outputs(images, names, out)

    outcomes: Iterable[Outcome] = predictor.outcomes(
        (source.path for source in images), batch_size=batch_size, probabilities="probabilities" in names
    )
    if track is not None:
        outcomes = track(outcomes, total=len(images), what="predicting")
    predictions = tuple(_written(outcome, source, names, out) for outcome, source in zip(outcomes, images, strict=True))
    content = {
        "pyramidseg": pyramidseg.__version__,
        "classes": list(predictor.classes.names),
        "images": [entry.to_dict() for entry in predictions],
    }
    write_text(out / SUMMARY_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return PredictionSummary(out, predictions)


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
    if summary.exists() and not _is_our_summary(summary):
        raise OutputError(f"{summary}: exists and was not written by pyramidseg; choose another --out")


def _is_our_summary(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "pyramidseg" in content


def _output(out: Path, source: Source, name: str) -> Path:
    return out / f"{source.stem}{WRITERS[name].suffix}"


def _written(outcome: Outcome, source: Source, names: Sequence[str], out: Path) -> Prediction:
    """Write what one image asks for, and its entry."""
    if outcome.error is not None:
        return Prediction(source.path, {}, error=str(outcome.error))
    segmentation, image = outcome.segmentation, outcome.image
    assert segmentation is not None and image is not None
    outputs = {}
    for name in names:
        output = _output(out, source, name)
        WRITERS[name].write(output, segmentation, image)
        outputs[name] = output.relative_to(out).as_posix()
    height, width = segmentation.labels.shape
    return Prediction(source.path, outputs, (height, width), segmentation.shares())
