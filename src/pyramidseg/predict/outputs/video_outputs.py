"""The outputs of a video: lossless video of class ids, overlay with sound, PNG files, and shares of the classes."""

import csv
import heapq
import time
import zipfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError
from pyramidseg.images.video_frames import VideoFrame, import_pyav
from pyramidseg.predict.outputs.output_writers import encode_png
from pyramidseg.predict.outputs.ownership import SHARES_COLUMNS, SIGNATURE
from pyramidseg.predict.predictor import PredictionResult
from pyramidseg.predict.segmentation import class_shares

VIDEO_OUTPUTS = {
    "mask": "_mask.mp4",
    "video": "_overlay.mp4",
    "frames": "_masks.zip",
    "shares": "_shares.csv",
    "plot": "_shares.png",
}
"""Endings by the names that `--save` takes for videos."""

_BT709 = 1
"""Number of this standard among spaces, primaries and transfers of colours; and of the limited range among ranges."""


DrawnFrame = tuple[VideoFrame, Sequence[NDArray[np.uint8]], bytes, DataError | None]
"""A frame, its pictures, (H, W) class ids first, these as PNG if asked for; and the error instead of pictures."""


class VideoOutputs:
    """Writes the outputs of one video into a folder: `draw` frames in any thread, `write` them in order, then `finish`.

    Attributes:
        stream_info: as in `VideoReader`; set it before the first frame is written.
        live: a frame of another size ends the recording, rather than making it fail.
        ended: why the recording ended, if it did.
        failed: errors of frames that could not be predicted, which are left out.
        stamps: number and ticks of the frames that are written.
        latency: longest time from the arrival of a frame until it was written, in seconds.
    """

    def __init__(self, folder: Path, names: Collection[str], classes: Classes, *, name: str) -> None:
        self.name, self.folder, self.names, self.classes = name, folder, names, classes
        self.sound = str(folder / "sound.mp4") if "video" in names else ""
        self.stream_info: dict[str, Any] = {}
        self.live, self.ended = False, ""
        self.failed: list[DataError] = []
        self.stamps: list[tuple[int, int]] = []
        self.latency = 0.0
        self._shape: tuple[int, ...] = ()
        self._shares: list[NDArray[np.float64]] = []
        self._encoders: list[_Encoder] = []
        self._archive = zipfile.ZipFile(self.path("frames"), "w")
        self._archive.comment = SIGNATURE.encode()

    def path(self, name: str) -> Path:
        """Where an output is written."""
        return self.folder / VIDEO_OUTPUTS[name]

    def draw(self, item: tuple[VideoFrame, PredictionResult]) -> DrawnFrame:
        """The pictures of a frame."""
        frame, result = item
        if result.error is not None or result.image is None:
            return frame, (), b"", result.error
        labels = result.found.labels
        pictures = (labels, result.found.overlay(result.image)) if "video" in self.names else (labels,)
        return frame, pictures, encode_png(labels) if "frames" in self.names else b"", None

    def write(self, drawn: DrawnFrame) -> None:
        """Encode a frame.

        Raises:
            DataError: it has another size than those before it, and is not live.
        """
        frame, pictures, png, error = drawn
        if error is not None:
            self.failed.append(error)
            return
        labels = pictures[0]
        self._shape = self._shape or labels.shape
        if labels.shape != self._shape:
            sizes = " and ".join(f"{width}x{height}" for height, width in (labels.shape, self._shape))
            found = f"frame {frame.number} and those before have different sizes ({sizes})"
            if not self.live:
                raise DataError(f"{self.name}: {found}; divide the video")
            self.ended = f"{found}; the recording ends before it"
            return
        if not self._encoders:
            paths = (self.path("mask"), self.folder / "pictures.mp4")[: len(pictures)]
            self._encoders = [
                _Encoder(path, picture, self.stream_info) for path, picture in zip(paths, pictures, strict=True)
            ]
        for encoder, picture in zip(self._encoders, pictures, strict=True):
            encoder.write(picture, frame.ticks)
        if png:
            self._archive.writestr(f"{frame.number:06d}.png", png)
        self.stamps.append((frame.number, frame.ticks))
        self._shares.append(np.bincount(labels.ravel(), minlength=len(self.classes)) / labels.size)
        self.latency = max(self.latency, time.monotonic() - frame.received)

    def finish(self) -> dict[str, Any]:
        """Complete the files; returns what the entry in `predictions.json` gets."""
        for encoder in self._encoders:
            encoder.close()
        self._archive.close()
        if "video" in self.names:
            _join(self.folder / "pictures.mp4", Path(self.sound), self.path("video"), self.stream_info)
        seconds = [float(ticks * Fraction(self.stream_info["time_base"])) for _, ticks in self.stamps]
        with self.path("shares").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow([*SHARES_COLUMNS, *self.classes.names])
            for (number, _), second, shares in zip(self.stamps, seconds, self._shares, strict=True):
                table.writerow([number, f"{second:.6f}", *(f"{share:.6g}" for share in shares)])
        if "plot" in self.names:
            from pyramidseg.report.figures import share_plot  # imports matplotlib

            plot = share_plot(seconds, np.stack(self._shares), self.classes)
            self.path("plot").write_bytes(encode_png(np.asarray(PillowImage.open(BytesIO(plot)).convert("RGB"))))
        classes = class_shares(np.mean(self._shares, axis=0), 1, self.classes)
        return {"height": self._shape[0], "width": self._shape[1], "classes": classes}


class _Encoder:
    """An MP4 file of pictures like a first one: grey (H, W) without loss, colours (H, W, 3) as H.264."""

    def __init__(self, path: Path, first: NDArray[np.uint8], stream_info: Mapping[str, Any]) -> None:
        self.av, self.time_base = import_pyav(), Fraction(stream_info["time_base"])
        self.is_grey = first.ndim == 2
        self.container = self.av.open(f"file:{path}", "w", options=_exact_times(stream_info))
        self.container.metadata["comment"] = SIGNATURE
        options = {} if self.is_grey else {"crf": "18", "preset": "veryfast"}
        self.stream = self.container.add_stream("ffv1" if self.is_grey else "libx264", options=options)
        self.stream.pix_fmt = "gray" if self.is_grey else "yuv420p"
        height, width = first.shape[:2]  # colours have half the resolution, which needs even sides
        self.stream.height, self.stream.width = (
            (height, width) if self.is_grey else (-(-height // 2) * 2, -(-width // 2) * 2)
        )
        self.stream.time_base = self.stream.codec_context.time_base = self.time_base
        self.stream.codec_context.sample_aspect_ratio = Fraction(stream_info.get("aspect", 1))
        if not self.is_grey:
            context = self.stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = context.color_range = _BT709

    def write(self, picture: NDArray[np.uint8], ticks: int) -> None:
        height, width = picture.shape[:2]
        margins = [(0, self.stream.height - height), (0, self.stream.width - width), (0, 0)][: picture.ndim]
        picture = np.ascontiguousarray(np.pad(picture, margins, mode="edge"))
        frame = self.av.VideoFrame.from_ndarray(picture, format="gray" if self.is_grey else "rgb24")
        if not self.is_grey:
            frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_BT709)
        frame.pts, frame.time_base = ticks, self.time_base
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        self.container.mux(self.stream.encode())
        self.container.close()


def _exact_times(stream_info: Mapping[str, Any]) -> dict[str, str]:
    """Options of MP4 files; in its default time scale of 1/1000, the first time stamp would be rounded."""
    return {"movie_timescale": str(Fraction(stream_info["time_base"]).denominator)}


def _join(video: Path, sound: Path, target: Path, stream_info: Mapping[str, Any]) -> None:
    """Copy the packets of a video and of its sound, if it has any, into one file."""
    if not sound.exists() or not sound.stat().st_size:
        video.replace(target)
        return
    av = import_pyav()
    with ExitStack() as stack:
        inputs = [stack.enter_context(av.open(f"file:{path}")) for path in (video, sound)]
        joined = stack.enter_context(av.open(f"file:{target}", "w", options=_exact_times(stream_info)))
        joined.metadata["comment"] = SIGNATURE
        targets = {stream: joined.add_stream_from_template(stream) for own in inputs for stream in own.streams}
        packets = ((packet for packet in own.demux() if packet.dts is not None) for own in inputs)
        for packet in heapq.merge(*packets, key=lambda packet: packet.dts * packet.time_base):
            packet.stream = targets[packet.stream]
            joined.mux(packet)
