"""The images of `data.unlabeled`: all are decoded once, and copies of images that models are scored on are left out."""

import logging
from dataclasses import replace
from pathlib import Path

from pyramidseg.base.config import Config
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.pairs import AllPixels
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.paired import MASK_FOLDERS
from pyramidseg.images.image_files import list_images
from pyramidseg.inspection.dataset_checks import PairCollector
from pyramidseg.inspection.defect_summary import refuse_files
from pyramidseg.inspection.duplicates import find_duplicates

logger = logging.getLogger(__name__)


def open_unlabeled(dataset: Dataset, config: Config, dtypes: tuple[str, ...]) -> tuple[Record, ...]:
    """The images of the folder `data.unlabeled`; names those that are left out.

    Args:
        dtypes: of the training images.

    Raises:
        ConfigError: the average of the weights, which labels the images, is off.
        DataError: no images, images that cannot be used, or a folder of masks among them.
    """
    if not config.optim.ema:
        raise ConfigError("data.unlabeled: the average of the weights labels these images; remove optim.ema=0")
    folder = Path(config.data.unlabeled or "")
    setting = f"data.unlabeled={folder}"
    if not (images := list_images(folder) if folder.is_dir() else []):
        reason = "no images in this folder or its subfolders" if folder.is_dir() else "no such folder"
        raise DataError(f"{setting}: {reason}; give a folder of images")
    found = tuple(Record(image.relative_to(folder).as_posix(), image) for image in images)
    for record in found:
        parts = (folder.resolve().name, *Path(record.id).parts[:-1])
        if masks := {part.lower() for part in parts} & {*MASK_FOLDERS}:
            detail = f"{record.image} is in a folder of masks by its name ({min(masks)})"
            raise DataError(f"{setting}: {detail}; give the folder of the images alone, or rename this one")
    scored = tuple(record for split in ("val", "test") for record in dataset.splits.get(split, ()))
    collected = PairCollector({"val or test": scored, "unlabelled": found}, len(dataset.classes))
    without_masks = replace(dataset, masks=AllPixels())
    collected.inspect(
        without_masks, channels=config.model.channels, decode_images=True, task="checking unlabelled images"
    )
    harmless = (DefectKind.BLANK_IMAGE, DefectKind.ALL_IGNORED)
    table, defects = collected.table, [one for one in collected.defects if one.kind not in harmless]
    for index, facts in table.facts.items():
        if facts.dtype not in dtypes:
            detail = f"has {facts.dtype} values, but the training images have {', '.join(dtypes)}; convert it"
            defects.append(Defect(DefectKind.MIXED_DEPTHS, table.records[index].image, detail))
    refuse_files(setting, defects, total=len(found))
    copies = {one.file: one for one in find_duplicates(table, AllPixels()) if one.kind is DefectKind.LEAK}
    shown = first_few(f"{file} {copy.detail.partition(';')[0]}" for file, copy in copies.items())
    left_out = (
        f"{setting}: {len(copies)} of {len(found)} images are copies of images that models are scored on: {shown}"
    )
    if len(copies) == len(found):
        raise DataError(f"{left_out}; give others")
    if copies:
        logger.warning(f"{left_out}; they are left out")
    logger.info(f"  unlabelled: {len(found) - len(copies)} images")
    return tuple(record for record in found if record.image not in copies)
