"""Predicts images in windows, one after the other; those that a killed call has begun go on with their next row."""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from pyramidseg.base.errors import ConfigError, DataError, MissingExtra, OutOfMemory
from pyramidseg.base.files import digest
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.remote_files import is_url
from pyramidseg.images.open_scene import open_scene
from pyramidseg.predict.output_folder import FileState, OutputFolder
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.resumption import Job, PredictionTask
from pyramidseg.predict.scene_prediction import MASKS, ScenePrediction
from pyramidseg.predict.sources import Source
from pyramidseg.predict.summary_file import Entry

logger = logging.getLogger(__name__)

Written = tuple[Job, Entry, dict[str, FileState]]
"""A finished image: its entry, and the files of its outputs."""


def predict_scenes(
    predictor: Predictor,
    names: Sequence[str],
    folder: OutputFolder,
    task: PredictionTask,
    jobs: Iterable[tuple[Job, Path]],
) -> Iterator[Written]:
    """Predict images in windows into the outputs `names`; yields each once it is written.

    Args:
        jobs: each with the path of its image on this machine.

    Raises:
        OutputError: the disk is full.
    """
    options, polygons = task.scenes, task.polygons
    for job, path in jobs:
        location, output = job.source.location, job.source.stem + MASKS[options.format]
        outputs = {name: output for name in names if name != "polygons"}
        if certain := "polygons" in names:
            outputs["polygons"] = job.source.stem + polygons.suffix
        work = rows_folder(folder, output)
        entry: Entry = {"image": location}
        files: dict[str, FileState] = {}
        try:
            known = ("mask", "polygons", *(("geotiff",) if options.format == "geotiff" else ()))
            if others := ",".join(name for name in names if name not in known):
                wanted = f"is predicted in windows, which writes {', '.join(known)} only"
                raise DataError(f"{location}: {wanted}; leave {others} out of `save`")
            if is_url(location) and path.suffix.lower() in (".vrt", ".mrxs"):
                raise DataError(
                    f"{location}: has its pixels in other files, which a URL does not give; copy all of them"
                )
            if folder.is_too_long(str(work.relative_to(folder.folder))):
                raise DataError(
                    f"{location}: the file system takes no name as long as that of its mask; rename the image"
                )
            for name in outputs.values():  # which images are read in windows is not known before
                folder.refuse_foreign(name, kind=DataError)
            if task.overwrite:
                shutil.rmtree(work, ignore_errors=True)
            with closing(open_scene(path, options)) as scene, Ledger.open(work, repair=True) as ledger:
                further = filter(None, (certain and "confidence", options.axes))  # earlier versions had neither
                fingerprint = digest((job.fingerprint, options, *further))[:32]
                prediction = ScenePrediction(
                    predictor, scene, ledger, fingerprint, skip_empty=options.skip_empty, confidence=certain
                )
                size = f"{prediction.height} x {prediction.width} pixels"
                logger.info(f"{location}: {size}, in windows of {prediction.tiles.tile_px}; labels go to {output}")
                prediction.run()
                files = dict.fromkeys(outputs, folder.write(output, prediction.write))
                if certain:
                    layer = prediction.polygons(polygons)
                    files["polygons"] = folder.write(outputs["polygons"], layer.write)
                    entry["polygons"] = {**asdict(polygons), **layer.counts}
                entry |= {"outputs": outputs, **prediction.entry(), "scene": asdict(options)}
        except (DataError, ConfigError, OutOfMemory, MissingExtra) as error:
            entry["error"] = error_about(location, error, path)
            if files:
                (folder.folder / output).unlink(missing_ok=True)
                files = {}
        if is_url(location):
            path.unlink(missing_ok=True)
        yield job, entry, files
        if "error" not in entry:
            shutil.rmtree(work, ignore_errors=True)


def error_about(location: str, error: Exception, path: Path) -> str:
    """The message of an error about an image, which is named by its location, not by the path of its copy."""
    text = str(error).replace(str(path), location)
    return text if location in text else f"{location}: {text}"


def rows_folder(folder: OutputFolder, output: str) -> Path:
    """The hidden folder with the finished rows of an output."""
    return (folder.folder / output).with_name(f".{Path(output).name}.rows")


def remove_finished_rows(finished: Iterable[Source], ledger: Ledger, folder: OutputFolder) -> None:
    """Delete the rows of scenes that are finished: a call may be killed after it has recorded one."""
    for source in finished:
        if mask := mask_in_windows(source, ledger):
            shutil.rmtree(rows_folder(folder, mask), ignore_errors=True)


def mask_in_windows(source: Source, ledger: Ledger) -> str:
    """The name of its label map in the ledger if it was read in windows; else empty."""
    mask: str = (ledger.find(source.key) or {}).get("outputs", {}).get("mask", "")
    return mask if mask.endswith((*MASKS.values(),)) else ""
