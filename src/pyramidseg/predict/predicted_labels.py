"""The masks of a prediction as a dataset with labels, in one of the formats of `convert`."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pyramidseg.base.remote_files import is_url
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.writers import LABEL_WRITERS
from pyramidseg.predict.outputs.output_writers import WRITERS
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.resumption import RunDigests
from pyramidseg.predict.sources import Source

logger = logging.getLogger(__name__)


def write_labels(
    format: str,
    images: Sequence[Source],
    out: Path,
    predictor: Predictor,
    digests: RunDigests,
    *,
    simplify_px: float,
    scored: bool,
) -> None:
    """Write the masks of all images that could be predicted in a label format, in a folder of its name."""
    local = [source for source in images if not is_url(source.location)]
    paths = [(source, out / f"{source.stem}{WRITERS['mask'].suffix}") for source in local]
    records = tuple(Record(source.stem, source.path, mask) for source, mask in paths if mask.is_file())
    masks = ClassMasks.from_values({index: index for index in range(len(predictor.classes))})
    dataset = Dataset(str(out), "predictions", predictor.classes, masks, {"train": records})
    by_id = {source.stem: out / f"{source.stem}{WRITERS['confidence'].suffix}" for source in local}
    converted = convert_dataset(
        dataset,
        to=format,
        out=out / format,
        images="none",
        model=digests.model[:12],
        confidence=(lambda record: by_id[record.id]) if scored else None,
        simplify_px=simplify_px * LABEL_WRITERS[format].has_outlines,
    )
    for reason, pixels in converted.lost.items():
        logger.info(f"{out / format}: lost: {reason}: {pixels} pixels")
