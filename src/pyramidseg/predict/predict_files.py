"""Prediction of files into a folder: checks every output path first, then streams the images through the pipeline."""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from pyramidseg.base.errors import DataError, OutputError
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.log import track
from pyramidseg.base.remote_files import is_url
from pyramidseg.images.georeference import read_georeference
from pyramidseg.predict.fetched_sources import fetched
from pyramidseg.predict.output_folder import FileState, OutputFolder, open_output_folder
from pyramidseg.predict.outputs import WRITERS, output_names
from pyramidseg.predict.pipeline import map_in_order, stage_threads
from pyramidseg.predict.predictor import PredictionResult, Predictor
from pyramidseg.predict.resumption import Job, RunDigests, known_outputs, parse_shard, plan_jobs
from pyramidseg.predict.segmentation import Image, Segmentation
from pyramidseg.predict.source_lists import Source
from pyramidseg.predict.sources import find_images
from pyramidseg.predict.summary_file import MODEL_KEY, SUMMARY_FILE, PredictionEntry, write_summary

logger = logging.getLogger(__name__)


@dataclass
class PredictionSummary:
    """Counts of a finished prediction; `predictions.json` has one entry per image, in the order of the sources.

    Attributes:
        images: number of images.
        unchanged: number of images that were predicted by an earlier call, and not again.
        tiled: number of images that were predicted in tiles.
        failed: entries of the images that could not be predicted.
        last: entry of the last image.
        skipped: images, rasters and videos in the folders whose types are not read.
    """

    out: str | Path
    images: int = 0
    tiled: int = 0
    failed: list[PredictionEntry] = field(default_factory=list)
    last: PredictionEntry | None = None
    unchanged: int = 0
    skipped: list[Path] = field(default_factory=list)

    def count(self, entries: Iterable[PredictionEntry]) -> Iterator[PredictionEntry]:
        """Yield entries as they are, and count them."""
        for entry in entries:
            self.add(entry)
            yield entry

    def add(self, entry: PredictionEntry) -> None:
        """Count an entry. Only failed ones are kept, so that memory does not grow with the folder."""
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
    shard: str | None = None,
    overwrite: bool = False,
) -> PredictionSummary:
    """Predict images into a folder, with a `predictions.json` that lists the results.

    Class ids are always written as `<stem>.png`. The ledger in the folder has a line for each finished image: a second
    call predicts only what is missing or has changed (`resumption`), and images that failed. Other files are never
    touched. An image that cannot be read becomes an entry with its error, and the others are predicted. Threads read
    ahead of the model and write after it. If it is interrupted, all files are complete, and `predictions.json` is as it
    was before.

    Args:
        sources: files, folders, patterns, lists (.txt, .csv, `images.csv:column`), URLs; `-` reads paths from stdin.
        out: a folder, or the URL of one.
        save: further outputs, names in `WRITERS`.
        shard: predict only a part of the images, such as `3/16`, chosen by their relative names. Several processes can
            predict different parts into one folder; `merge_predictions` then writes `predictions.json`.
        overwrite: predict all images again.

    Raises:
        ConfigError: `save` has an unknown name, or `shard` is not a part.
        DataError: a source matches nothing, or `save` has `geotiff` and an image is not georeferenced.
        OutputError: two images share an output path, or an output would replace an input or a file that pyramidseg did
            not write (found before anything is computed); or another process uses the folder, or the disk is full.
    """
    names = output_names(save)
    part = None if shard is None else parse_shard(shard)
    skipped: list[Path] = []
    images = find_images(sources, outside=out, skipped=skipped)
    _check_names(images, names)
    if part is not None:
        images = tuple(source for source in images if part.has(source.key))
    digests = RunDigests.of(predictor)
    with open_output_folder(out, shard=str(part or "")) as folder, folder.open_ledger() as ledger:
        plan = plan_jobs(images, ledger, digests, names, folder, overwrite=overwrite)
        _check_outputs(images, plan.jobs, names, folder, ledger)
        if _needs("georeference", names):
            _check_georeferenced(plan.jobs)
        if plan.other_model:
            logger.info(
                f"{folder.name}: predicted with another model or other settings: {plan.other_model}; done again"
            )
        folder.remove_leftovers()
        with closing(_predict(predictor, plan.jobs, names, folder, batch_size=batch_size)) as entries:
            _record(track(entries, total=len(plan.jobs), task="predicting"), ledger, predictor, digests)
        summary = PredictionSummary(out if is_url(out) else Path(out), unchanged=plan.unchanged, skipped=skipped)
        counted = summary.count(_recorded(images, ledger))
        if part is None:
            write_summary(folder, predictor.classes.names, counted)
        else:
            deque(counted, maxlen=0)
    return summary


def _record(
    entries: Iterable[tuple[Job, PredictionEntry, dict[str, FileState]]],
    ledger: Ledger,
    predictor: Predictor,
    digests: RunDigests,
) -> None:
    """Append a line to the ledger for each image whose outputs are written.

    Its `seconds` are those since the image before, so that they add up to the time that a process took.
    """
    last = time.perf_counter()
    for job, entry, files in entries:
        if ledger.find(model := MODEL_KEY + digests.model) is None:
            ledger.append({"key": model, "fingerprint": "", "classes": list(predictor.classes.names)})
        line = {
            "key": job.source.key,
            "fingerprint": job.fingerprint,
            **entry.to_dict(),
            "size": job.size,
            "stamp": job.stamp,
            **({} if entry.error else {"files": files}),
            **asdict(digests),
            "seconds": round((now := time.perf_counter()) - last, 4),
        }
        last = now
        earlier = ledger.find(job.source.key) if entry.error else None
        if earlier is None or earlier | {"seconds": 0} != line | {"seconds": 0}:  # a failure that is recorded already
            ledger.append(line)


def _recorded(images: Iterable[Source], ledger: Ledger) -> Iterator[PredictionEntry]:
    """The entries of images in the ledger, in order."""
    for source in images:
        line = ledger.find(source.key)
        assert line is not None, source
        yield PredictionEntry.from_dict(line, image=source.location)


def _predict(
    predictor: Predictor, jobs: Sequence[Job], names: Sequence[str], folder: OutputFolder, *, batch_size: int
) -> Generator[tuple[Job, PredictionEntry, dict[str, FileState]], None, None]:
    """Predict and write images; yields the entry and the files of each once they are written."""
    writers = max(2, stage_threads())  # they mostly wait for the disk
    with (
        fetched([job.source for job in jobs], ahead=2 * batch_size) as sources,
        closing(
            predictor.predict_results(
                sources.paths(),
                batch_size=batch_size,
                confidence=_needs("confidence", names),
                probabilities=_needs("probabilities", names),
            )
        ) as results,
        closing(
            map_in_order(
                lambda item: _write(*item, names, folder),
                zip(results, jobs, strict=True),
                threads=writers,
                ahead=2 * writers,
                pixels=lambda item: _result_pixels(item[0]),
                name="write",
            )
        ) as entries,
    ):
        for job, entry, files in entries:
            entry = sources.explained(entry, job.source)
            sources.release(job.source)
            yield job, entry, files


def _write(
    result: PredictionResult, job: Job, names: Sequence[str], folder: OutputFolder
) -> tuple[Job, PredictionEntry, dict[str, FileState]]:
    """Write the outputs of one image."""
    if result.error is not None:
        return job, PredictionEntry(job.source.location, {}, error=str(result.error)), {}
    segmentation, image = result.segmentation, result.image
    assert segmentation is not None and image is not None
    if _needs("georeference", names):
        assert isinstance(result.source, (str, Path))
        segmentation = replace(segmentation, georeference=read_georeference(Path(result.source)))
    outputs = {name: _output_name(job.source, name) for name in names}
    files = {}
    for name, output in outputs.items():
        files[name] = folder.write(output, partial(_call, WRITERS[name].write, segmentation, image))
    height, width = segmentation.labels.shape
    return (
        job,
        PredictionEntry(job.source.location, outputs, (height, width), segmentation.shares(), result.tiles),
        files,
    )


def _call(
    write: Callable[[Path, Segmentation, Image], None], segmentation: Segmentation, image: Image, path: Path
) -> None:
    write(path, segmentation, image)


def _check_names(images: Sequence[Source], names: Sequence[str]) -> None:
    """Refuse output paths that collide with each other.

    Raises:
        OutputError: names the path and the images that would be written to it.
    """
    outputs: dict[str, str] = {}
    for source in images:
        for name in names:
            output = _output_name(source, name)
            if output in outputs:
                raise OutputError(
                    f"{outputs[output]} and {source.location} would both be written to {output}: predict them into "
                    "different folders, or rename one"
                )
            outputs[output] = source.location


def _check_outputs(
    images: Sequence[Source], jobs: Sequence[Job], names: Sequence[str], folder: OutputFolder, ledger: Ledger
) -> None:
    """Refuse outputs that exist and are inputs or foreign files, before anything is computed.

    Raises:
        OutputError: names the file.
    """
    inputs: dict[str, str] = {}
    for job in jobs:
        for output in (_output_name(job.source, name) for name in names):
            if not folder.exists(output):
                continue
            inputs = inputs or {_real_name(source): source.location for source in images}
            if (replaced := inputs.get(folder.real_name(output))) is not None:
                raise OutputError(f"{folder.path(output)}: would overwrite the input {replaced}; choose another --out")
            if folder.is_foreign(output, known=output in known_outputs(ledger.find(job.source.key))):
                raise OutputError(
                    f"{folder.path(output)}: exists and was not written by pyramidseg; choose another --out"
                )
    if folder.is_foreign(SUMMARY_FILE, known=False):
        raise OutputError(
            f"{folder.path(SUMMARY_FILE)}: exists and was not written by pyramidseg; choose another --out"
        )


def _check_georeferenced(jobs: Sequence[Job]) -> None:
    """Refuse images without a georeference; unreadable ones get an entry with their error later.

    Raises:
        DataError: names the first image without a georeference.
    """
    for source in (job.source for job in jobs):
        if is_url(source.location):  # becomes an entry with its error
            continue
        try:
            georeference = read_georeference(source.path)
        except DataError:
            continue
        if georeference is None:
            raise DataError(
                f"{source.location}: has no georeference, so it cannot be saved as a GeoTIFF; leave geotiff out of "
                "--save, or predict georeferenced images only"
            )


def _needs(attribute: str, names: Sequence[str]) -> bool:
    """Whether a writer needs an attribute of `Segmentation`."""
    return any(attribute in WRITERS[name].needs for name in names)


def _real_name(source: Source) -> str:
    return source.location if is_url(source.location) else os.path.realpath(source.location)


def _output_name(source: Source, name: str) -> str:
    return f"{source.stem}{WRITERS[name].suffix}"


def _result_pixels(result: PredictionResult) -> int:
    return 0 if result.segmentation is None else result.segmentation.labels.size
