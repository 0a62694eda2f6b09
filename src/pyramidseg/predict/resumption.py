"""What a call has to predict, by the ledger of the output folder, and what it will write.

An image is done if its last line in the ledger has the same source (absolute path or URL, size, and time of the last
change), model and settings, no error, and all outputs that are wanted, intact. The content of the source is not
compared: reading a million photos would take longer than all other checks together.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyramidseg.backends import Backend
from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.torch_backend import TorchBackend
from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.files import digest, file_sha256
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.remote_files import is_url, remote_info
from pyramidseg.images.open_scene import is_scene, is_zarr
from pyramidseg.images.raster_scene import mosaic_parts
from pyramidseg.images.scene import FULL_RESOLUTION, SceneOptions
from pyramidseg.predict.output_folder import FileState, OutputFolder
from pyramidseg.predict.outputs.polygon_layers import PolygonOptions
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.scene_prediction import MASKS
from pyramidseg.predict.sources import Source
from pyramidseg.predict.summary_file import SUMMARY_FILE
from pyramidseg.predict.tta import SCALES, TestTimeAugmentation
from pyramidseg.predict.video_sources import frame_files, stream_input

logger = logging.getLogger(__name__)


class WantedOutputs(NamedTuple):
    """The outputs of each image or video.

    Attributes:
        suffixes: ends of their names, by the names that `save` takes.
        options: what they depend on, by the field of an image's entry that has to have the same if it has one; and the
            values of those options that the entry of an earlier version does not have.
        scenes: how images are read that do not fit into memory, which have other outputs.
    """

    suffixes: Mapping[str, str]
    options: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]
    scenes: SceneOptions = FULL_RESOLUTION

    def names(self, source: Source) -> list[str]:
        """The names of a source's outputs, as far as its own name tells them."""
        suffixes = self.suffixes
        if not is_url(source.location) and is_scene(source.path, self.scenes):
            polygons = {name: suffix for name, suffix in suffixes.items() if name == "polygons"}
            suffixes = {"mask": MASKS[self.scenes.format], **polygons}
        return [source.stem + suffix for suffix in suffixes.values()]

    def are_intact(self, entry: Mapping[str, Any], folder: OutputFolder) -> bool:
        """Whether an entry without an error has all of them, with these options, and they are as they were written."""
        return (
            ("video" in entry) == ("video" in self.options)  # a GIF may be either
            and all(
                name in entry["outputs"] and folder.is_intact(entry["outputs"][name], entry["files"][name])
                for name in self.suffixes
            )
            and all(
                (old | entry.get(field, given)).items() >= given.items() for field, (given, old) in self.options.items()
            )
        )

    def check_names(self, images: Iterable[Source]) -> None:
        """Refuse outputs of several images with the same name."""
        outputs: dict[str, str] = {}
        for source in images:
            for output in self.names(source):
                if output in outputs:
                    raise OutputError(
                        f"{outputs[output]} and {source.location} would both be written to {output}: predict them into "
                        "different folders, or rename one"
                    )
                outputs[output] = source.location


class Shard(NamedTuple):
    """One of several parts of a set of images, numbered from 1; a name's part does not depend on the other names."""

    number: int
    parts: int

    def has(self, key: str) -> bool:
        """Whether an image of this relative name is in the part."""
        hashed = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(hashed[:8], "big") % self.parts == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}-of-{self.parts}"


def parse_shard(text: str) -> Shard:
    """`3/16` as a shard.

    Raises:
        ConfigError: not two integers, or not 1 <= number <= count.
    """
    found = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    number, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= number <= count:
        raise ConfigError(f"`shard={text}`: must be the number of a part, from 1 on, and that of all parts: 3/16")
    return Shard(number, count)


class Job(NamedTuple):
    """An image that is to be predicted.

    Attributes:
        size: of the source in bytes; -1 if it is missing.
        stamp: time of its last change, or its tag behind a URL.
        earlier: outputs of another model, image or setting at other paths than now, with their states, by their names.
    """

    source: Source
    size: int
    stamp: str
    fingerprint: str
    earlier: Mapping[str, tuple[str, FileState]] = {}


class RunDigests(NamedTuple):
    """What outputs depend on besides the image; the runtime and the device are left out."""

    model: str
    settings: str

    @classmethod
    def of(cls, predictor: Predictor, resample: float | None = None) -> "RunDigests":
        """The digests of a predictor, and of the resolution that images are resampled to."""
        backend, tta = predictor.backend, ""
        if isinstance(backend, TestTimeAugmentation):
            tta, backend = f"{SCALES} True", backend.backend
        planner, precision = predictor.tile_planner, getattr(backend, "precision", "")
        settings = (tta, str(planner.tile_px), planner.overlap_px, precision, *((resample,) if resample else ()))
        return cls(model_digest(backend)[:32], digest(settings)[:32])

    def fingerprint(self, source: Source, size: int, stamp: str) -> str:
        """Digest of everything that an image's outputs depend on."""
        location = source.location if is_url(source.location) else str(source.path.absolute())
        return digest((self.model, self.settings, location, size, stamp))[:32]


def model_digest(backend: Backend) -> str:
    """SHA-256 of a model: the checksum in its bundle, or the digest of its tensors in memory.

    An export has that of the bundle that it was made from, as their results agree. A backend of another class is
    identified by its attribute `digest`, if it has one, or else by its class.
    """
    if isinstance(backend, ExportedBackend):
        return backend.checksum or file_sha256(backend.path)
    if not isinstance(backend, TorchBackend):
        return str(getattr(backend, "digest", "")) or digest((type(backend).__qualname__, backend.classes.to_dict()))
    if backend.checksum is not None:
        return backend.checksum
    total = hashlib.sha256(json.dumps([backend.settings.model_dump(), backend.classes.to_dict()]).encode())
    for name, tensor in backend.model.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


class PredictionTask(NamedTuple):
    """What is the same for all images of a prediction; `out` is an absolute path, or a URL."""

    out: str
    save: Sequence[str]
    polygons: PolygonOptions
    scenes: SceneOptions
    batch_size: int
    digests: RunDigests
    overwrite: bool = False


def plan_jobs(
    images: Sequence[Source], ledger: Ledger, wanted: WantedOutputs, folder: OutputFolder, task: PredictionTask
) -> list[Job]:
    """The images that the ledger does not have, or not with these outputs; with `overwrite` all of them.

    Raises:
        OutputError: an output exists and is an input, a foreign file or a recording.
    """
    jobs: list[Job] = []
    digests, other_model = task.digests, 0
    for source in images:
        size, stamp = _state(source)
        fingerprint = digests.fingerprint(source, size, stamp)
        entry: dict[str, Any] = ledger.find(source.key) or {"model": digests.model, "settings": digests.settings}
        other_model += (entry.get("model"), entry.get("settings")) != digests
        if task.overwrite or not (ledger.done(source.key, fingerprint) and wanted.are_intact(entry, folder)):
            names, is_same = wanted.names(source), entry.get("fingerprint", fingerprint) == fingerprint
            old = {} if is_same else entry.get("outputs", {})
            earlier = {name: (path, entry["files"][name]) for name, path in old.items() if path not in names}
            jobs.append(Job(source, size, stamp, fingerprint, earlier))
    _check_existing([job.source for job in jobs], images, wanted, folder, overwrite=task.overwrite)
    if other_model:
        logger.info(f"{folder.name}: predicted with another model or other settings: {other_model}; done again")
    return jobs


def _check_existing(
    pending: Iterable[Source], images: Iterable[Source], wanted: WantedOutputs, folder: OutputFolder, *, overwrite: bool
) -> None:
    """Refuse outputs that exist and are one of the `images`, foreign files or recordings."""
    inputs: dict[str, str] = {}
    for source in pending:
        for output in wanted.names(source):
            if folder.state(output) is None:
                continue
            place = f"{folder.name}/{output}"
            if source.opened and not overwrite:
                raise OutputError(f"{place}: an earlier recording of this stream; choose another `out`, or `overwrite`")
            inputs = inputs or {
                it.location if is_url(it.location) else os.path.realpath(it.location): it.location for it in images
            }
            if (replaced := inputs.get(folder.real_name(output))) is not None:
                raise OutputError(f"{place}: would overwrite the input {replaced}; choose another `out`")
            folder.refuse_foreign(output)
    folder.refuse_foreign(SUMMARY_FILE)


def _state(source: Source) -> tuple[int, str]:
    """Size, and time or tag of the last change; -1 if it does not exist. A live stream is always new."""
    if stream_input(source) is not None:
        return 0, str(time.time_ns())
    if is_url(source.location):
        found = source.remote or remote_info(source.location)
        return (-1, "") if found is None else (found.size, found.stamp)
    path, files = source.path, [source.path]
    try:
        if path.suffix.lower() == ".vrt":
            files += mosaic_parts(path)
        elif path.is_dir():
            files = [path, *path.rglob("*")] if is_zarr(path) else frame_files(path)
        states = [file.stat() for file in files]
    except OSError:
        return -1, ""
    several, last = f"{len(states)} " if files != [path] else "", max(state.st_mtime_ns for state in states)
    return sum(state.st_size for state in states), f"{several}{last}"
