"""Label formats of a prediction: its masks as a dataset with labels, in formats of `convert`."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.remote_files import is_url
from pyramidseg.base.text_files import read_text
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.writers import LABEL_WRITERS, label_writer
from pyramidseg.images.open_scene import is_scene
from pyramidseg.images.scene import SceneOptions
from pyramidseg.predict.outputs.output_writers import WRITERS
from pyramidseg.predict.predict_scenes import mask_in_windows
from pyramidseg.predict.resumption import PredictionTask
from pyramidseg.predict.sources import Source

logger = logging.getLogger(__name__)


def check_formats(formats: Sequence[str], *, is_complete: bool) -> None:
    """Refuse label formats for a part of the images or a remote folder."""
    if formats and not is_complete:
        raise ConfigError(
            f"`save={formats[0]}`: is made from all images, in a folder on this machine; leave it out here, and when "
            "all parts are done predict again with it, without a shard"
        )


def label_configs(
    formats: Sequence[str], classes: Classes, label_config: str | Path | None
) -> Mapping[str, str | Path | None]:
    """The labelling configuration of each format, after checks that the formats can hold the classes.

    Raises:
        ConfigError: one cannot, or a configuration is given and no format has one.
        DataError: the configuration cannot be read.
    """
    for_project = {format for format in formats if LABEL_WRITERS[format].for_project}
    if label_config is not None and not for_project:
        raise ConfigError(f"`label_config={label_config}`: changes nothing that is saved; add label-studio to `save`")
    configs = {format: label_config if format in for_project else None for format in formats}
    for format, config in configs.items():
        label_writer(format, classes, label_config=None if config is None else read_text(Path(config)))
    return configs


def refuse_scenes(format: str, images: Iterable[Source], scenes: SceneOptions, ledger: Ledger) -> None:
    """Refuse a label format for images whose labels are not in a PNG file."""
    for source in images:
        if is_scene(source.path, scenes) or mask_in_windows(source, ledger):
            raise ConfigError(
                f"`save={format}`: {source.location} is predicted in windows, which writes no label formats; leave "
                f"{format} out, or give the other images to a call of their own"
            )


def write_labels(
    configs: Mapping[str, str | Path | None],
    images: Sequence[Source],
    out: Path,
    classes: Classes,
    task: PredictionTask,
    *,
    scored: bool,
) -> None:
    """Write the masks of images that were predicted by a model in label formats, each in a folder of its name.

    Args:
        configs: see `label_configs`.
    """
    records = tuple(
        Record(source.stem, source.path, mask)
        for source in images
        if not is_url(source.location) and (mask := out / f"{source.stem}{WRITERS['mask'].suffix}").is_file()
    )
    masks = ClassMasks.from_values({index: index for index in range(len(classes))})
    dataset = Dataset(str(out), "predictions", classes, masks, {"train": records})
    for format, label_config in configs.items():
        converted = convert_dataset(
            dataset,
            to=format,
            out=out / format,
            images="none",
            model=task.digests.model[:12],
            confidence=(lambda record: out / f"{record.id}{WRITERS['confidence'].suffix}") if scored else None,
            simplify_px=task.polygons.simplify_px * LABEL_WRITERS[format].has_outlines,
            label_config=label_config,
        )
        for reason, pixels in converted.lost.items():
            logger.info(f"{out / format}: lost: {reason}: {pixels} pixels")
