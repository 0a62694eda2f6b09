"""Which sources are videos: files, folders of frames, and live streams. A call predicts either images or videos."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.remote_files import is_url, url_name
from pyramidseg.images.image_files import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS, is_image_name, list_files
from pyramidseg.predict.outputs.video_outputs import VIDEO_OUTPUTS
from pyramidseg.predict.sources import Source, images_of

_DEVICES = ("v4l2", "avfoundation", "dshow", "lavfi")
_STREAMS = (*_DEVICES, "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt")
_WEB_STREAMS = (".m3u8", ".mjpg", ".mjpeg", ".ts", ".sdp")
"""Endings of http:// URLs that are live streams."""


def stream_input(source: Source) -> tuple[str, str | None] | None:
    """What FFmpeg opens for a live stream, and the name of its format for a device; None if it is not a stream."""
    name = source.opened or source.location
    scheme, _, device = name.partition("://")
    if name.startswith("/dev/video"):
        return name, "v4l2"
    if scheme in _DEVICES:
        return device, scheme
    is_stream = scheme in _STREAMS or (scheme.startswith("http") and url_name(name).lower().endswith(_WEB_STREAMS))
    return (name, None) if is_stream else None


def frame_files(folder: Path) -> list[Path]:
    """The images in a folder in the order of the numbers in their names: 2 is before 10."""

    def order(path: Path) -> list[int | str]:
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]

    return sorted((path for path in folder.iterdir() if is_image_name(path.name)), key=order)


def find_sources(
    sources: Iterable[str | Path], *, save: Sequence[str], outside: str | Path, skipped: list[Path]
) -> tuple[tuple[Source, ...], bool]:
    """The images or the videos of a call, each once, and whether they are videos.

    A folder has videos if it has no images. With an output in `save` that only videos have, a folder of images is a
    video, and so is each of its subfolders; and every file that is not an image is a video.

    Args:
        outside, skipped: see `images_of`.

    Raises:
        DataError: no sources, one matches nothing, or there are both images and videos.
        ConfigError: `save` has an output that these sources do not have.
    """
    asked = [name for name in save if name in VIDEO_OUTPUTS and name != "mask"]
    images: dict[str, Source] = {}
    videos: dict[str, Source] = {}
    for name in map(str, sources):
        found = _stream(name) or (_videos_in(name, outside, frames=True) if asked else [])
        unread: list[Path] = []
        try:
            found = found or [*images_of(name, outside=outside, skipped=unread)]
        except DataError:
            if not (found := _videos_in(name, outside, frames=False)):
                raise
            unread.clear()
        skipped += unread
        for source in found:
            ending = PurePath(source.location).suffix.lower()
            is_film = ending in VIDEO_EXTENSIONS or (asked and (ending not in IMAGE_EXTENSIONS or ending == ".gif"))
            is_video = is_film or source.opened or (asked and source.path.is_dir())
            place = source.location if is_url(source.location) else os.path.abspath(source.location)
            (videos if is_video else images).setdefault(place, source)
    image, video = next(iter(images), ""), next(iter(videos), "")
    if not image and not video:
        raise DataError("no images given; pass files, folders or patterns such as 'images/*.jpg'")
    if image and video:
        raise DataError(f"{video} is a video and {image} an image: predict them by two calls")
    if image and asked:
        raise ConfigError(f"`save={asked[0]}`: is written for videos and folders of frames, not for {image}, an image")
    if video and (others := [name for name in save if name not in VIDEO_OUTPUTS]):
        known = ", ".join(VIDEO_OUTPUTS)
        raise ConfigError(
            f"`save={others[0]}`: is written for images, not for videos such as {video}, which have {known}"
        )
    return tuple((images or videos).values()), bool(videos)


def _stream(name: str) -> list[Source]:
    """The live stream that a name is; empty for everything else."""
    if not stream_input(Source(name, "")):
        return []
    shown = re.sub("(?<=://)[^/@]*@", "", name)  # without user and password
    stem = re.sub("[^A-Za-z0-9._-]+", "_", shown.rpartition("://")[2].partition("?")[0]).strip("_.")
    return [Source(shown, stem, opened=name)]


def _videos_in(name: str, outside: str | Path, *, frames: bool) -> list[Source]:
    """The video files in a folder, or, with `frames`, its folders of images; empty for everything else."""
    folder, out = Path(name), Path(outside).absolute()
    if is_url(name) or not folder.is_dir():
        return []
    listed = list_files(folder, VIDEO_EXTENSIONS + (IMAGE_EXTENSIONS if frames else ()))
    files = [file for file in listed if out not in file.absolute().parents or out == folder.absolute()]
    stills = [file for file in files if is_image_name(file.name)]
    if not stills:
        return [Source(str(film), film.relative_to(folder).with_suffix("").as_posix()) for film in files]
    if len(stills) < len(files):
        raise DataError(f"{name}: has both videos and images; give the videos, or a folder of frames")
    parents = dict.fromkeys(file.parent for file in stills)
    return [
        Source(str(parent), (parent.relative_to(folder).as_posix(), folder.absolute().name)[parent == folder])
        for parent in parents
    ]
