"""The outputs of a prediction by their names: collisions, files that are in the way, and what a label format lacks."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence

from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.remote_files import is_url
from pyramidseg.images.open_scene import is_scene
from pyramidseg.images.scene import SceneOptions
from pyramidseg.predict.output_folder import OutputFolder
from pyramidseg.predict.predict_scenes import rows_folder
from pyramidseg.predict.resumption import Job
from pyramidseg.predict.scene_prediction import MASKS
from pyramidseg.predict.sources import Source
from pyramidseg.predict.summary_file import SUMMARY_FILE

Named = Callable[[Source], Sequence[str]]
"""The names of a source's outputs."""


def outputs_of(source: Source, suffixes: Mapping[str, str], scenes: SceneOptions) -> list[str]:
    """The names of a source's outputs, as far as its own name tells them."""
    if not is_url(source.location) and is_scene(source.path, scenes):
        suffixes = {**{name: suffixes[name] for name in suffixes if name == "polygons"}, "mask": MASKS[scenes.format]}
    return [source.stem + suffix for suffix in suffixes.values()]


def refuse_scenes(format: str, images: Sequence[Source], scenes: SceneOptions, ledger: Ledger) -> None:
    """Refuse a label format for images whose labels are not in a PNG file."""
    for source in images:
        if is_scene(source.path, scenes) or _mask_of(source, ledger).endswith((*MASKS.values(),)):
            raise ConfigError(
                f"save={format}: {source.location} is predicted in windows, which writes no label formats; leave "
                f"{format} out, or give the other images to a call of their own"
            )


def check_names(images: Sequence[Source], named: Named) -> None:
    """Refuse output paths that collide with each other."""
    outputs: dict[str, str] = {}
    for source in images:
        for output in named(source):
            if output in outputs:
                raise OutputError(
                    f"{outputs[output]} and {source.location} would both be written to {output}: predict them into "
                    "different folders, or rename one"
                )
            outputs[output] = source.location


def check_outputs(
    images: Sequence[Source], jobs: Sequence[Job], named: Named, folder: OutputFolder, *, overwrite: bool
) -> None:
    """Refuse outputs that exist and are inputs, foreign files or recordings, before anything is computed."""
    inputs: dict[str, str] = {}
    for job in jobs:
        for output in named(job.source):
            if folder.state(output) is None:
                continue
            if job.source.opened and not overwrite:
                raise OutputError(
                    f"{folder.name}/{output}: an earlier recording of this stream; choose another --out, or --overwrite"
                )
            inputs = inputs or {
                it.location if is_url(it.location) else os.path.realpath(it.location): it.location for it in images
            }
            if (replaced := inputs.get(folder.real_name(output))) is not None:
                raise OutputError(f"{folder.name}/{output}: would overwrite the input {replaced}; choose another --out")
            folder.refuse_foreign(output)
    folder.refuse_foreign(SUMMARY_FILE)


def remove_finished_rows(images: Sequence[Source], jobs: Sequence[Job], ledger: Ledger, folder: OutputFolder) -> None:
    """Delete the rows of scenes that are finished: a call may be killed after it has recorded one."""
    pending = {job.source.key for job in jobs}
    for source in images:
        if source.key not in pending and (mask := _mask_of(source, ledger)).endswith((*MASKS.values(),)):
            shutil.rmtree(rows_folder(folder, mask), ignore_errors=True)


def _mask_of(source: Source, ledger: Ledger) -> str:
    """The name of its label map in the ledger; empty if there is none."""
    outputs: Mapping[str, str] = (ledger.find(source.key) or {}).get("outputs", {})
    return outputs.get("mask", "")
