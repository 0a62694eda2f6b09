"""Prediction of files into a folder: checks every output path first, then streams the images through the pipeline."""

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import Any

from pyramidseg.base.errors import ConfigError, DataError, MissingExtra
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_order
from pyramidseg.base.remote_files import fetch, is_url, url_name
from pyramidseg.images.open_scene import check_options, is_scene, needs_windows
from pyramidseg.images.scene import FULL_RESOLUTION, SceneOptions
from pyramidseg.predict.output_folder import FileState, OutputFolder, open_output_folder
from pyramidseg.predict.outputs.output_writers import Writer, output_writers
from pyramidseg.predict.outputs.polygon_layers import EXACT_POLYGONS, PolygonOptions
from pyramidseg.predict.outputs.video_outputs import VIDEO_OUTPUTS
from pyramidseg.predict.pipeline import stage_threads
from pyramidseg.predict.predict_scenes import Written, error_about, predict_scenes, remove_finished_rows
from pyramidseg.predict.predict_videos import EVERY_FRAME, VideoOptions, predict_videos
from pyramidseg.predict.predicted_labels import check_formats, label_configs, refuse_scenes, write_labels
from pyramidseg.predict.predictor import PredictionResult, Predictor, result_pixels
from pyramidseg.predict.resumption import Job, PredictionTask, RunDigests, WantedOutputs, parse_shard, plan_jobs
from pyramidseg.predict.segmentation import Segmentation
from pyramidseg.predict.summary_file import MODEL_KEY, Entry, PredictionSummary, entry_of, write_summary
from pyramidseg.predict.video_sources import find_sources

FETCH_THREADS = 8

Engine = Callable[[Predictor, Sequence[Job], PredictionTask], None]
"""Predicts jobs by other processes, which write into the same folder, each with a ledger file of its own."""


def predict_files(
    predictor: Predictor,
    sources: str | Path | Iterable[str | Path],
    out: str | Path,
    *,
    save: str | Sequence[str] = ("mask",),
    batch_size: int = 4,
    shard: str | None = None,
    overwrite: bool = False,
    polygons: PolygonOptions = EXACT_POLYGONS,
    video: VideoOptions = EVERY_FRAME,
    scenes: SceneOptions = FULL_RESOLUTION,
    label_config: str | Path | None = None,
    engine: Engine | None = None,
) -> PredictionSummary:
    """Predict images into a folder, with a `predictions.json` that lists the results.

    Class ids are always written as `<stem>.png`. The ledger in the folder has a line for each finished image: a second
    call predicts only what is missing or has changed (`resumption`), and images that failed. Other files are never
    touched. An image that cannot be read becomes an entry with its error, and the others are predicted. Threads read
    ahead of the model and write after it. If it is interrupted, all files are complete, and `predictions.json` is as it
    was before.

    Args:
        sources: one or several files, folders, patterns, lists (.txt, .csv, `images.csv:column`), URLs; `-` reads paths
            from stdin.
        out: a folder, or the URL of one.
        save: further outputs, names in `WRITERS`; or label formats, names in `LABEL_WRITERS`: written when all images
            are predicted, each to a folder of its name in `out`, as one split `train` without the images.
        shard: predict only a part of the images, such as `3/16`, chosen by their relative names. Several processes can
            predict different parts into one folder; `merge_predictions` then writes `predictions.json`.
        overwrite: predict all images again.
        video: options of videos, live streams and folders of frames, whose outputs are those in `VIDEO_OUTPUTS`.
        polygons: format of the output `polygons`, how it is simplified (label formats with outlines too), and the
            minimum area of its regions.
        scenes: how images are read that do not fit into memory (`predict_scenes`): their labels are written to
            `<stem>_mask.tif` instead of `<stem>.png`.
        label_config: the labelling configuration of the Label Studio project that labels in its formats are for.
        engine: where to predict, such as a `RayEngine`; None: in this process.

    Raises:
        ConfigError: `predictor` is a model, `save` has an unknown name or a label format that cannot hold a class's
            name, `shard` is not a part, `polygons` or `label_config` has no effect, or that has no label for a class.
        DataError: a source matches nothing.
        OutputError: two images share an output path, or an output would replace an input or a file that pyramidseg did
            not write (found before anything is computed); or another process uses the folder, or the disk is full.
    """
    if not isinstance(predictor, Predictor):
        raise ConfigError(
            f"predictor: a {type(predictor).__name__}, but a Predictor is needed; give ps.Predictor(model)"
        )
    sources = [sources] if isinstance(sources, (str, Path)) else sources
    save = [save] if isinstance(save, str) else save
    skipped: list[Path] = []
    images, are_videos = find_sources(sources, save=save, outside=out, skipped=skipped)
    video.check(images if are_videos else ())
    check_options(scenes, () if are_videos else (source.path for source in images))
    if are_videos and engine is not None:
        raise ConfigError("`engine`: predicts images; videos and folders of frames are predicted without it")
    writers, formats = output_writers([] if are_videos else save, polygons)
    part = None if shard is None else parse_shard(shard)
    check_formats(formats, is_complete=part is None and not is_url(out))
    configs = label_configs(formats, predictor.classes, label_config)
    wanted = _videos_outputs(save, video) if are_videos else _images_outputs(writers, scenes, polygons)
    wanted.check_names(images)
    if part is not None:
        images = tuple(source for source in images if part.has(source.key))
    place = str(out) if is_url(out) else os.path.abspath(out)
    task = PredictionTask(
        place, save, polygons, scenes, batch_size, RunDigests.of(predictor, scenes.resample), overwrite
    )
    with open_output_folder(out, shard=str(part or "")) as folder, ExitStack() as stack:
        ledger = stack.enter_context(folder.open_ledger())
        if formats:
            refuse_scenes(formats[0], images, scenes, ledger)
        jobs = plan_jobs(images, ledger, wanted, folder, task)
        folder.remove_leftovers()
        pending = {job.source.key for job in jobs}
        remove_finished_rows((source for source in images if source.key not in pending), ledger, folder)
        if engine is not None and jobs:
            engine(predictor, jobs, task)
            folder.remove_leftovers()
            ledger = stack.enter_context(folder.open_ledger())
        else:
            predicted = (
                predict_videos(predictor, jobs, wanted.suffixes, folder, options=video, batch_size=batch_size)
                if are_videos
                else predict_jobs(predictor, jobs, folder, task)
            )
            with closing(predicted) as entries:
                recorded = record(entries, ledger, predictor, task.digests, folder)
                deque(track(recorded, total=len(jobs), task="predicting"), maxlen=0)
        unchanged = len(images) - len(jobs)
        summary = PredictionSummary(out if is_url(out) else Path(out), unchanged=unchanged, skipped=skipped)
        lines = ((source, ledger.find(source.key)) for source in images)
        counted = summary.count(entry_of(line, image=source.location) for source, line in lines if line is not None)
        if part is None:
            write_summary(folder, predictor.classes.names, counted)
        else:
            deque(counted, maxlen=0)
    if formats:
        failed = {entry["image"] for entry in summary.failed}
        labelled = [source for source in images if source.location not in failed]
        write_labels(configs, labelled, Path(out), predictor.classes, task, scored="confidence" in writers)
    return summary


def _videos_outputs(save: Sequence[str], video: VideoOptions) -> WantedOutputs:
    suffixes = {name: VIDEO_OUTPUTS[name] for name in dict.fromkeys(("mask", *save))}
    return WantedOutputs(suffixes, {"video": (video.stored(), {})})


def _images_outputs(writers: Mapping[str, Writer], scenes: SceneOptions, polygons: PolygonOptions) -> WantedOutputs:
    options = {"scene": (asdict(scenes), asdict(FULL_RESOLUTION))}
    if "polygons" in writers:
        options["polygons"] = asdict(polygons), asdict(EXACT_POLYGONS)
    return WantedOutputs({name: writer.suffix for name, writer in writers.items()}, options, scenes)


def record(
    entries: Iterable[Written], ledger: Ledger, predictor: Predictor, digests: RunDigests, folder: OutputFolder
) -> Iterator[tuple[Job, Entry]]:
    """Append a line to the ledger for each image whose outputs are written, delete what they replace, and yield it.

    Its `seconds` are those since the image before, so that they add up to the time that a process took.
    """
    last = time.perf_counter()
    for job, entry, files in entries:
        if ledger.find(model := MODEL_KEY + digests.model) is None:
            ledger.append({"key": model, "fingerprint": "", "classes": list(predictor.classes.names)})
        line = {
            "key": job.source.key,
            "fingerprint": job.fingerprint,
            **entry,
            "size": job.size,
            "stamp": job.stamp,
            **({"files": files} if files else {}),
            **digests._asdict(),
            "seconds": round((now := time.perf_counter()) - last, 4),
        }
        last = now
        ledger.append(line)
        outputs = entry.get("outputs", {})
        for name, (output, state) in job.earlier.items():
            if name in outputs and output not in outputs.values() and folder.state(output) == (state[0], state[1]):
                (folder.folder / output).unlink(missing_ok=True)  # behind a URL, it stays
        yield job, entry


def predict_jobs(
    predictor: Predictor,
    jobs: Sequence[Job],
    folder: OutputFolder,
    task: PredictionTask,
    *,
    begin: Callable[[Job], object] = lambda job: None,
) -> Generator[Written, None, None]:
    """Predict and write images, last those that cannot be decoded whole; yields each once its outputs are written.

    Args:
        begin: called before an image is read.
    """
    (outputs, formats), batch_size = output_writers(task.save, task.polygons), task.batch_size
    threads = max(2, stage_threads())  # they mostly wait for the disk
    not_fetched: dict[Path, str] = {}
    scenes = [job for job in jobs if is_scene(job.source.path, task.scenes)]
    jobs = [job for job in jobs if not is_scene(job.source.path, task.scenes)]
    with (
        tempfile.TemporaryDirectory() as copies,
        closing(_local_paths(jobs, Path(copies), not_fetched, begin, ahead=FETCH_THREADS + 2 * batch_size)) as paths,
        closing(
            predictor.predict_results(
                paths,
                batch_size=batch_size,
                confidence=_needs("confidence", outputs),
                probabilities=_needs("probabilities", outputs),
                georeference=any(writer.uses_georeference for writer in outputs.values()),
            )
        ) as results,
        closing(
            map_in_order(
                lambda item: _write(*item, outputs, folder, not_fetched),
                zip(results, jobs, strict=True),
                threads=threads,
                ahead=2 * threads,
                pixels=lambda item: result_pixels(item[0]),
                name="write",
            )
        ) as entries,
    ):
        for written in entries:
            if isinstance(written, Job):
                scenes.append(written)
            else:
                yield written
        with closing(_local_paths(scenes, Path(copies), not_fetched, begin, ahead=1)) as scene_paths:
            in_windows = zip(scenes, scene_paths, strict=True)
            yield from predict_scenes(predictor, (*outputs, *formats), folder, task, in_windows)


def _local_paths(
    jobs: Sequence[Job], folder: Path, not_fetched: dict[Path, str], begin: Callable[[Job], object], *, ahead: int
) -> Generator[Path, None, None]:
    """A path for each image; those behind URLs are copied into a folder by threads, a bounded number ahead.

    Args:
        not_fetched: gets an error for each path where there is no copy.
    """

    def fetched(number: int) -> Path:
        source = jobs[number].source
        begin(jobs[number])
        if not is_url(source.location):
            return source.path
        copy = folder / f"{number}{PurePath(url_name(source.location)).suffix}"
        try:
            return fetch(source.location, copy)
        except DataError as error:
            not_fetched[copy] = str(error)
            return copy

    return map_in_order(fetched, range(len(jobs)), threads=FETCH_THREADS, ahead=ahead, name="fetch")


def _write(
    result: PredictionResult,
    job: Job,
    writers: Mapping[str, Writer],
    folder: OutputFolder,
    not_fetched: dict[Path, str],
) -> Written | Job:
    """Write the outputs of one image, and delete its copy if it is behind a URL; only its job if it needs windows."""
    path, location = result.source, job.source.location
    assert isinstance(path, Path)
    if needs_windows(path, result.error):
        return job
    outputs = {name: job.source.stem + writer.suffix for name, writer in writers.items()}
    entry: Entry = {"image": location}
    files: dict[str, FileState] = {}
    reported: dict[str, Any] = {}

    try:
        segmentation = _savable(result, job, writers, folder)
        assert result.image is not None
        image = result.image

        def written(name: str) -> FileState:
            write = writers[name].write
            return folder.write(outputs[name], lambda part: reported.update(write(part, segmentation, image) or {}))

        for name in writers:
            files[name] = written(name)
    except (DataError, MissingExtra) as error:
        entry["error"] = not_fetched.pop(path, "") or error_about(location, error, path)
        while files:
            (folder.folder / outputs[files.popitem()[0]]).unlink(missing_ok=True)
    else:
        height, width = segmentation.labels.shape
        tiles = {} if (used := result.tiles) is None else {"tile_px": used.tile_px, "overlap_px": used.overlap_px}
        entry |= {"outputs": outputs, "height": height, "width": width, **tiles, "classes": segmentation.shares()}
        entry |= reported
    if is_url(location):
        path.unlink(missing_ok=True)
    return job, entry, files


def _savable(result: PredictionResult, job: Job, writers: Mapping[str, Writer], folder: OutputFolder) -> Segmentation:
    """The segmentation with all that its writers need.

    Raises:
        DataError: there is none, an output cannot have its name, or the image has no georeference for a GeoTIFF.
    """
    if result.error is not None:
        raise result.error
    path = result.source
    assert isinstance(path, Path)
    for name, writer in writers.items():
        if folder.is_too_long(job.source.stem + writer.suffix):
            raise DataError(f"{path}: the file system takes no name as long as that of its {name}; rename the image")
    if result.georeference is None and _needs("georeference", writers):
        raise DataError(f"{path}: has no georeference, so it cannot be saved as a GeoTIFF; leave geotiff out of `save`")
    return replace(result.found, georeference=result.georeference)


def _needs(attribute: str, writers: Mapping[str, Writer]) -> bool:
    """Whether a writer needs an attribute of `Segmentation`."""
    return any(attribute in writer.needs for writer in writers.values())
