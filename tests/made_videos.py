"""Small videos, drawn with PyAV: a bright bar that moves to the right over a dark background."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

TICKS = Fraction(1, 15360)


def bar(number: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A frame (H, W, 3) whose bar ends at column 2 * number + 4."""
    pixels = np.full((height, width, 3), 30, np.uint8)
    pixels[:, : 2 * number + 4] = 220
    return pixels


def regular_times(frames: int) -> list[int]:
    """24 frames per second."""
    return [round(number / 24 / TICKS) for number in range(frames)]


def write_video(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (48, 64),
    times: list[int] | None = None,
    sound: str = "",
    matrix: tuple[int, ...] | None = None,
    codec: str = "ffv1",
    aspect: Fraction = Fraction(1),
    layout: str = "mono",
    **options: str,
) -> Path:
    """Write `bar`s as a video, and a tone of the same length if `sound` names a codec.

    Args:
        times: of the frames, in units of `TICKS`.
        matrix: display matrix, 9 numbers.
        aspect: width of a pixel, divided by its height.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    times = times or regular_times(frames)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec)
        stream.height, stream.width = size
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        stream.time_base = stream.codec_context.time_base = TICKS
        stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(list(matrix))
        tone = container.add_stream(sound, rate=16000) if sound else None
        if tone is not None:
            tone.layout = layout
        for number, ticks in enumerate(times):
            frame = av.VideoFrame.from_ndarray(bar(number, *size), format="rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = ticks, TICKS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone is not None:
            samples = round((times[-1] * TICKS + Fraction(1, 24)) * 16000)
            wave = (8000 * np.sin(np.arange(samples) / 5)).astype(np.int16)[None].repeat(1 + (layout == "stereo"), 1)
            block = av.AudioFrame.from_ndarray(wave, format="s16", layout=layout)
            block.sample_rate, block.pts, block.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(tone.encode(block))
            container.mux(tone.encode())
    return path


def read_video(path: Path, format: str = "gray") -> tuple[list[Fraction], NDArray[np.uint8]]:
    """Times in seconds, and pixels (N, H, W) or (N, H, W, 3)."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [frame.pts * frame.time_base for frame in frames], np.stack(
            [f.to_ndarray(format=format) for f in frames]
        )


def read_sound(path: Path) -> list[tuple[Fraction, bytes]]:
    """Time and content of the packets of sound."""
    with av.open(str(path)) as container:
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(audio=0) if p.pts is not None]
