"""Label formats of a prediction: its masks as a dataset with labels, in formats of `convert`."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.remote_files import is_url
from pyramidseg.base.text_files import read_text
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.writers import LABEL_WRITERS, label_writer
from pyramidseg.predict.outputs.output_writers import WRITERS
from pyramidseg.predict.predict_scenes import mask_in_windows
from pyramidseg.predict.resumption import Task
from pyramidseg.predict.sources import Source

logger = logging.getLogger(__name__)


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
        raise ConfigError(f"--label-config {label_config}: changes nothing that is saved; add label-studio to --save")
    configs = {format: label_config if format in for_project else None for format in formats}
    for format, config in configs.items():
        label_writer(format, classes, label_config=None if config is None else read_text(Path(config)))
    return configs


def write_labels(
    configs: Mapping[str, str | Path | None],
    images: Sequence[Source],
    out: Path,
    predictor: Predictor,
    digests: RunDigests,
    *,
    simplify_px: float,
    scored: bool,
) -> None:
    """Write the masks of all images that could be predicted in label formats, each in a folder of its name.

    Args:
        configs: see `label_configs`.
    """
    local = [source for source in images if not is_url(source.location)]
    paths = [(source, out / f"{source.stem}{WRITERS['mask'].suffix}") for source in local]
    records = tuple(Record(source.stem, source.path, mask) for source, mask in paths if mask.is_file())
    masks = ClassMasks.from_values({index: index for index in range(len(predictor.classes))})
    dataset = Dataset(str(out), "predictions", predictor.classes, masks, {"train": records})
    by_id = {source.stem: out / f"{source.stem}{WRITERS['confidence'].suffix}" for source in local}
    for format, label_config in configs.items():
        converted = convert_dataset(
            dataset,
            to=format,
            out=out / format,
            images="none",
            model=digests.model[:12],
            confidence=(lambda record: by_id[record.id]) if scored else None,
            simplify_px=simplify_px * LABEL_WRITERS[format].has_outlines,
            label_config=label_config,
        )
        for reason, pixels in converted.lost.items():
            logger.info(f"{out / format}: lost: {reason}: {pixels} pixels")
