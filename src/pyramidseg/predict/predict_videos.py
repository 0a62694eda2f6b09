"""Prediction of videos, folders of frames and live streams: frames through the predictor, in constant memory."""

import copy
import signal
import threading
from collections import deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path, PurePath
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyramidseg.backends import Backend
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.files import explained_writes, make_folder, temporary_folder, write_atomically
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_order
from pyramidseg.base.remote_files import fetch, is_url, url_name
from pyramidseg.images.video_frames import VideoFrame, VideoReader, import_pyav
from pyramidseg.predict.input_images import ImageLike
from pyramidseg.predict.output_folder import FileState, OutputFolder
from pyramidseg.predict.outputs.video_outputs import VIDEO_OUTPUTS, VideoOutputs
from pyramidseg.predict.predictor import Predictor, result_pixels
from pyramidseg.predict.resumption import Job
from pyramidseg.predict.segmentation import OutputOptions, all_finite
from pyramidseg.predict.sources import Source
from pyramidseg.predict.summary_file import Entry
from pyramidseg.predict.tile_planner import TilePlanner
from pyramidseg.predict.video_sources import frame_files, stream_input


class VideoOptions(NamedTuple):
    """How videos are predicted.

    Attributes:
        every: only one frame in so many is predicted, and is in the outputs.
        smooth: weight of earlier frames in the logits, see `TemporalSmoothing`.
        fps: frames per second of folders of frames, which have no times.
        seconds: until a live stream is left; otherwise it is left when it ends, and at Ctrl-C.
    """

    every: int = 1
    smooth: float = 0.0
    fps: Fraction | None = None
    seconds: float | None = None

    def check(self, videos: Sequence[Source]) -> None:
        """Raise a ConfigError for values out of range or without effect; `videos` is empty for images."""
        live = [video for video in videos if video.opened]
        folders = [video for video in videos if not video.opened and video.path.is_dir()]
        for name, allowed, users, what in (
            ("every", self.every >= 1, videos, "at least 1, and is for videos"),
            ("smooth", 0 <= self.smooth < 1, videos, "at least 0 and below 1, and is for videos"),
            ("fps", self.fps is None or self.fps > 0, folders, "above 0, and is for folders of frames"),
            ("seconds", self.seconds is None or self.seconds > 0, live, "above 0, and is for live streams"),
        ):
            value = getattr(self, name)
            if not allowed or (value != self._field_defaults[name] and not users):
                raise ConfigError(f"`{name}={value}`: must be {what} only")
        if folders and self.fps is None:
            raise ConfigError(f"{folders[0].location}: a folder of frames has no frame rate; give it, such as `fps=25`")

    def stored(self) -> dict[str, Any]:
        """Those that outputs of a file depend on, as the ledger has them."""
        return {"every": self.every, "smooth": self.smooth, "fps": str(self.fps or "")}


EVERY_FRAME = VideoOptions()

Frames = Iterable[VideoFrame]
Steps = Generator[None, None, None]
"""One for each frame, when it is written."""


def predict_videos(
    predictor: Predictor,
    jobs: Sequence[Job],
    names: Collection[str],
    folder: OutputFolder,
    *,
    options: VideoOptions,
    batch_size: int,
) -> Generator[tuple[Job, Entry, dict[str, FileState]], None, None]:
    """Predict one video after the other; yields the entry and the files of each once they are written."""
    for job in jobs:
        location, stem = job.source.location, job.source.stem
        entry: Entry = {"image": location, "video": options.stored()}
        files: dict[str, FileState] = {}
        target = folder.folder / stem
        make_folder(target.parent)
        with explained_writes(target), temporary_folder(target) as parts:
            fetched = parts / f"copy{PurePath(url_name(location)).suffix}"
            outputs = VideoOutputs(parts, names, predictor.classes, name=location)
            try:
                is_remote = is_url(location) and not job.source.opened
                path = fetch(location, fetched) if is_remote else job.source.path
                found = _predict_video(predictor, job.source, path, outputs, options, batch_size)
                for name in names:
                    move = partial(write_atomically, write=outputs.path(name).replace)
                    files[name] = folder.write(stem + VIDEO_OUTPUTS[name], move)
                entry |= {"outputs": {name: stem + VIDEO_OUTPUTS[name] for name in names}, **found}
            except OSError:  # such as a full disk
                raise
            except DataError as error:
                entry["error"] = str(error).replace(str(fetched), location)
            except import_pyav().FFmpegError as error:
                entry["error"] = f"{location}: its outputs cannot be written: {error.strerror}"
        yield job, entry, files


def _predict_video(
    predictor: Predictor, source: Source, path: Path, outputs: VideoOutputs, options: VideoOptions, batch_size: int
) -> Entry:
    """Write the outputs of a video into their folder; returns what its entry gets."""
    own = _smoothed(predictor, options.smooth)
    stream = stream_input(source)
    with ExitStack() as stack:
        frames: Frames
        if path.is_dir():
            stills = list(enumerate(frame_files(path)))[:: options.every]
            frames = [VideoFrame(number, number, still) for number, still in stills]
            stream_info: dict[str, Any] = {"time_base": str(1 / (options.fps or 1)), "expected": len(frames)}
        else:
            opened, format = stream or (str(path), "")
            reader = VideoReader(
                source.location, opened, outputs.sound, format, options.every, options.seconds, bool(stream)
            )
            stack.callback(reader.close)
            frames, stream_info = reader, reader.stream_info
            if stream:
                stack.enter_context(_stopped_by_signals(reader))
        outputs.stream_info, outputs.live = stream_info, bool(stream)
        written = _one_by_one(own, reader, outputs) if stream else _pipeline(own, frames, outputs, batch_size)
        with closing(written):
            deque(track(written, total=stream_info.get("expected", 0), task=f"predicting {source.stem}"), maxlen=0)
        if not outputs.stamps:
            raise outputs.failed[0]
        entry = outputs.finish()
    entry["video"] = {
        **options.stored(),
        "frames": len(outputs.stamps),
        "damaged": stream_info.get("damaged", 0) + len(outputs.failed),
        "damaged_sound": stream_info.get("damaged_sound", 0),
        "ended": outputs.ended or stream_info.get("crashed" if stream else "ended", ""),
    }
    if stream:  # whose own end is not a finding
        entry["video"] |= {"dropped": stream_info["dropped"], "latency_s": round(outputs.latency, 3)}
    return entry


class TemporalSmoothing:
    """A `Backend` whose logits are an exponential moving average over the images that it gets, in their order.

    s[t] = weight * s[t-1] + (1 - weight) * x[t]; s[0] = x[0], and again after a frame without finite logits.
    """

    def __init__(self, backend: Backend, weight: float) -> None:
        self.backend, self.weight = backend, weight
        self.name = f"{backend.name}, smoothed"
        self.classes, self.in_channels, self.geometry = backend.classes, backend.in_channels, backend.geometry
        self._mean: Tensor | None = None

    @torch.inference_mode()
    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) at the stride."""
        smoothed = []
        for logits in self.backend.coarse_logits(images):
            mean = logits if self._mean is None else torch.lerp(logits, self._mean, self.weight)
            smoothed.append(mean)
            self._mean = mean if all_finite(mean) else None
        return torch.stack(smoothed)

    def __call__(self, images: Tensor) -> Tensor:
        """`geometry.upsample` of `coarse_logits`."""
        return self.geometry.upsample(self.coarse_logits(images), *images.shape[-2:])


def _smoothed(predictor: Predictor, weight: float) -> Predictor:
    """A predictor for one video, of whole frames (ConfigError: it has tiles of a fixed size); itself if weight is 0."""
    if not weight:
        return predictor
    if isinstance(predictor.tile_planner.tile_px, int):
        raise ConfigError("smooth and tiles: frames are smoothed as a whole; leave `tile_px` out, or `smooth`")
    own = copy.copy(predictor)
    own.backend = TemporalSmoothing(predictor.backend, weight)
    own.tile_planner = TilePlanner(own.backend, tile_px="whole")
    return own


def _pipeline(predictor: Predictor, frames: Frames, outputs: VideoOutputs, batch_size: int) -> Steps:
    """Predict and write frames as images of folders are: threads draw and encode them while the model runs."""
    stamps: deque[VideoFrame] = deque()

    def images() -> Iterator[ImageLike]:
        for frame in frames:
            stamps.append(frame._replace(pixels=None))
            yield frame.pixels

    results = predictor.predict_results(images(), batch_size=batch_size)
    stamped = ((stamps.popleft(), result) for result in results)
    drawn = map_in_order(
        outputs.draw, stamped, threads=2, ahead=4, pixels=lambda item: result_pixels(item[1]), name="draw"
    )
    written = map_in_order(outputs.write, drawn, threads=1, ahead=2, name="encode")
    with closing(results), closing(drawn), closing(written):
        yield from written


def _one_by_one(predictor: Predictor, reader: VideoReader, outputs: VideoOutputs) -> Steps:
    """Predict and write the newest frame of a live stream, and then the next: none waits for those after it."""
    options = OutputOptions()
    for frame in reader:
        if outputs.ended:
            continue  # to the end of the sound
        batch = [(0, predictor.load(frame.pixels))]
        ((_, result),) = predictor.segment(predictor.compute(batch, options), options=options)
        outputs.write(outputs.draw((frame, result)))
        if outputs.ended:
            reader.stop()
        yield


@contextmanager
def _stopped_by_signals(reader: VideoReader) -> Iterator[None]:
    """Ctrl-C and SIGTERM end a stream within the `with` block, whose outputs are completed; a second one ends all."""
    before: dict[int, Any] = {}

    def stop(number: int, _: FrameType | None) -> None:
        reader.stop()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
