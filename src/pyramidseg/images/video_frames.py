"""Frames of videos and live streams, decoded by a process of its own: a crash of a decoder costs one video.

The process writes lines of JSON to its standard output, and the pixels of a frame after the line about it.
"""

import errno
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyramidseg.base.errors import DataError, import_extra
from pyramidseg.images.open_image import apply_orientation

TIMEOUT_SECONDS = 10.0
"""A stream that sends nothing for so long has ended."""

_MISSING_SECONDS = 1
"""A file that ends by more before its stated duration is truncated."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_COVER = 0x400
"""FFmpeg's disposition of a picture that belongs to music."""

_ORIENTATIONS = {
    **{(1, 0, 0, 1): 1, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4},
    **{(0, 1, 1, 0): 5, (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8},
}
"""EXIF orientation by the signs of a, b, c, d of a display matrix: x' = a x + c y, y' = b x + d y."""


def import_pyav() -> Any:
    """The module of PyAV, or MissingExtra."""
    return import_extra("av", extra="video", purpose="predicting videos")


class VideoFrame(NamedTuple):
    """A frame: `pixels` (H, W, 3) uint8 RGB, upright, or a path; `ticks` is its time in units of the time base."""

    number: int
    ticks: int
    pixels: Any
    received: float = 0.0


class VideoReader:
    """Iterator over the frames of a video, in the order in which they are shown.

    Args:
        name: of the video in messages.
        request: arguments of `_Decoder`: a file, the URL of a stream, or the name of a device; an MP4 file that gets
            the sound, if there is any (empty: none); FFmpeg's name of the format (empty: recognised); only one frame in
            so many is converted to pixels; seconds until a live stream is left (None: at its end); and whether it is
            live, so that of the frames that wait only the newest is kept.

    Attributes:
        stream_info: `time_base`, `aspect` of the pixels, `expected` frames; after the last frame the numbers of
            `damaged` and `dropped` frames and of `damaged_sound`, and why it `ended` early; `crashed` if a live
            stream's decoder did.

    Raises:
        DataError: the source cannot be decoded, or the process crashed, except after the first frame of a live stream.
        OSError: the disk is full.
        MissingExtra: PyAV is not installed.
    """

    def __init__(self, name: str, *request: Any) -> None:
        import_pyav()
        self.name, self.stream_info, self._last = name, dict[str, Any](), -1
        _, self._sound, _, self._every, _, self._live = request
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-P", "-m", __name__, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            self._read()
        except BaseException:  # such as Ctrl-C while a stream is opened
            self.close()
            raise

    def __iter__(self) -> Iterator[VideoFrame]:
        count = 0
        while (frame := self._read()) is not None:
            self._last, count = frame.number, count + 1
            yield frame
        if "damaged" not in self.stream_info:
            crashed = f"its decoder crashed after frame {self._last} (status {self._process.wait()})"
            if not self._live or not count:
                raise DataError(f"{self.name}: {crashed}")
            Path(self._sound).unlink(missing_ok=True)  # incomplete
            self.stream_info |= {"crashed": f"{crashed}; the recording ends there, and has no sound", "damaged": 0}
            self.stream_info |= {"ended": "", "dropped": self._last // self._every + 1 - count}
        if (number := self.stream_info.pop("errno", 0)) in _DISK_FULL:  # of the sound
            raise OSError(number, os.strerror(number))
        if self._last < 0:
            raise DataError(f"{self.name}: {self.stream_info['ended'] or 'has no frames'}")

    def stop(self) -> None:
        """End a live stream at its next packet."""
        self._process.terminate()

    def close(self) -> None:
        """End the process now, and wait for it."""
        self._process.kill()
        self._process.communicate()

    def _read(self) -> VideoFrame | None:
        """The next frame; None for a message of another kind, which is noted, and at the end."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        message = json.loads(line) if line.endswith(b"\n") else {}
        if "shape" not in message:
            self.stream_info |= message
            if "defect" in message:
                raise RuntimeError(message["defect"])
            return None
        content, shape = self._process.stdout.read(math.prod(message["shape"])), message.pop("shape")
        if len(content) < math.prod(shape):
            return None
        return VideoFrame(pixels=np.frombuffer(content, np.uint8).reshape(shape), **message)


class _Unusable(Exception):
    """A video that cannot be decoded, with the reason for the user."""


class _Decoder:
    """What the process does: a thread decodes, and the main thread writes what it finds."""

    def __init__(self, source: str, sound: str, format: str, every: int, seconds: float | None, live: bool) -> None:
        self.av, self.source, self.sound, self.format = import_pyav(), source, sound, format or None
        self.every, self.live, self.seconds = every, live, seconds or math.inf
        self.waiting: queue.Queue[Any] = queue.Queue(1 if live else 4)
        self.stopped = False
        self.stream_info: dict[str, Any] = {"damaged": 0, "dropped": 0, "damaged_sound": 0, "ended": ""}

    def write_all(self) -> None:
        """Write the frames as they come, and at the end what is to be said of them."""
        threading.Thread(target=self._decode, daemon=True).start()
        while (message := self.waiting.get()) is not None:
            _write(*message)

    def _decode(self) -> None:
        name = self.source if self.live else f"file:{self.source}"
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "analyzeduration": "1000000"} if self.live else {}
        timeout = TIMEOUT_SECONDS if self.live else None
        try:
            with self.av.open(
                name, format=self.format, options=options, timeout=timeout, metadata_errors="replace"
            ) as container:
                self._decode_packets(container)
        except self.av.error.ExitError:
            self.stream_info["ended"] = f"nothing came for {TIMEOUT_SECONDS:g} s"
        except (_Unusable, self.av.FFmpegError) as error:
            self.stream_info |= {"ended": getattr(error, "strerror", str(error)), "errno": getattr(error, "errno", 0)}
        except Exception:
            self.waiting.put(({"defect": traceback.format_exc()},))
        self.waiting.put((self.stream_info,))
        self.waiting.put(None)

    def _decode_packets(self, container: Any) -> None:
        video = next((stream for stream in container.streams.video if not stream.disposition & _COVER), None)
        if video is None:
            raise _Unusable("has no video stream")
        video.thread_type = "AUTO"
        starts = [s.start_time * s.time_base for s in (video, *container.streams.audio) if s.start_time is not None]
        start, seconds = min(starts, default=Fraction(0)), Fraction(container.duration or 0, 10**6)
        sound = _SoundFile(self.av, self.sound, container.streams.audio if self.sound else (), start)
        shift, step = round(start / video.time_base), round(1 / ((video.average_rate or 25) * video.time_base))
        expected = video.frames or round(seconds * (video.average_rate or 0))
        about = {"time_base": str(video.time_base), "expected": -(-expected // self.every)}
        aspect = Fraction(video.sample_aspect_ratio or 1)
        number, hidden, lost, end, ticks = 0, 0, 0, Fraction(0), -step
        until = time.monotonic() + self.seconds
        with closing(sound):
            for packet in container.demux():
                if self.live and (self.stopped or time.monotonic() > until):
                    break
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream.type == "audio":
                    self.stream_info["damaged_sound"] += not sound.write(packet)
                elif packet.stream.index == video.index:
                    hidden += packet.is_discard  # by an edit list
                    frames = self._frames(packet)
                    lost += frames is None
                    for frame in frames or ():
                        if number == 0:  # nothing waits yet, of which something would be dropped
                            _write({**about, "aspect": str(1 / aspect if _orientation(frame) >= 5 else aspect)})
                        stamp = frame.dts if frame.pts is None else frame.pts
                        ticks = max(ticks + 1, ticks + step if stamp is None else stamp - shift)  # later than the last
                        if number % self.every == 0:
                            self._send(frame, number, ticks)
                        number += 1
        # Only the index of MP4 has a frame for each of its packets.
        missing = max(0, video.frames - hidden - number - lost) if "mp4" in container.format.name else 0
        self.stream_info["damaged"] += missing
        if not self.live and (missing or seconds + start > end + _MISSING_SECONDS):
            self.stream_info["ended"] = f"ends {float(seconds + start - end):.2f} s before its stated duration"

    def _frames(self, packet: Any) -> Sequence[Any] | None:
        """The frames of a packet; None if it cannot be decoded. Counts damaged frames, shown or not."""
        try:
            frames: Sequence[Any] = packet.decode()
        except self.av.FFmpegError:
            self.stream_info["damaged"] += 1
            return None
        self.stream_info["damaged"] += sum(frame.is_corrupt for frame in frames)
        return frames

    def _send(self, frame: Any, number: int, ticks: int) -> None:
        pixels = apply_orientation(frame.to_ndarray(format="rgb24"), _orientation(frame))
        while self.live and self.waiting.full():
            with suppress(queue.Empty):
                self.waiting.get_nowait()
                self.stream_info["dropped"] += 1
        fields = {"number": number, "ticks": ticks, "received": time.monotonic()}  # a clock of the whole machine
        self.waiting.put(({"shape": pixels.shape, **fields}, pixels))


class _SoundFile:
    """All sound of a video, copied; encoded as AAC where MP4 does not take it. Time starts at `start` seconds.

    MP4 takes PCM, but not always the layout of channels that AVI and Matroska give it.
    """

    def __init__(self, av: Any, path: str, streams: Any, start: Fraction) -> None:
        self.start, self.targets = start, dict[int, tuple[Any, bool]]()
        self.unread = {stream.index for stream in streams if not stream.rate}  # whose kind the stream has not said yet
        streams = [stream for stream in streams if stream.rate]
        rate = max((stream.rate for stream in streams), default=0)
        self.container: Any = None
        if rate:
            self.container = av.open(f"file:{path}", "w", options={"movie_timescale": str(rate)})
        for stream in streams:
            with suppress(ValueError):
                if not stream.name.startswith("pcm_"):
                    self.targets[stream.index] = self.container.add_stream_from_template(stream), True
            if stream.index not in self.targets:
                self.targets[stream.index] = self.container.add_stream("aac", rate=48000), False  # it takes few rates
                self.targets[stream.index][0].layout = "mono" if stream.channels == 1 else "stereo"

    def write(self, packet: Any) -> bool:
        """Write a packet; returns whether it was intact."""
        target, is_copy = self.targets.get(packet.stream.index, (None, True))
        shift = round(self.start / packet.time_base)
        try:
            if target is not None and is_copy and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = (packet.pts or packet.dts) - shift, packet.dts - shift, target
                self.container.mux(packet)
            for frame in packet.decode() if not is_copy else ():
                frame.pts -= shift
                self.container.mux(target.encode(frame))
        except ValueError:
            return False
        return packet.stream.index not in self.unread

    def close(self) -> None:
        """Complete the file."""
        for target, is_copy in self.targets.values():
            self.container.mux([] if is_copy else target.encode())
        if self.container:
            self.container.close()


def _write(fields: dict[str, Any], pixels: Any = b"") -> None:
    """Write a line, and the pixels that it is about."""
    sys.stdout.buffer.write(json.dumps(fields).encode() + b"\n")
    sys.stdout.buffer.write(pixels)
    sys.stdout.buffer.flush()


def _orientation(frame: Any) -> int:
    """EXIF orientation of a frame by its display matrix, by which phones turn their videos."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    signs = tuple((value > 2**15) - (value < -(2**15)) for value in (a, b, c, d))
    if signs not in _ORIENTATIONS:
        raise _Unusable("its display matrix turns it by an angle that is not a multiple of 90 degrees")
    return _ORIENTATIONS[signs]


def _end_with_parent() -> None:
    """End this process with the one that started it, even while it opens a stream: nobody writes to its input."""
    os.read(0, 1)
    os._exit(0)


def main() -> None:
    """Decode what the command line asks for; a stream that waits for its sender is left."""
    decoder = _Decoder(*json.loads(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: setattr(decoder, "stopped", True))
    with suppress(BrokenPipeError):  # the other process has gone
        decoder.write_all()
    os._exit(0)


if __name__ == "__main__":
    main()
