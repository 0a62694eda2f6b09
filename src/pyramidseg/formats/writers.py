"""The writers of all formats by the name that `convert --to` and `predict --save` take."""

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError
from pyramidseg.formats import cvat_images, huggingface, labelme, supervisely, voc
from pyramidseg.formats.coco.coco_writer import COCO, COCO_PANOPTIC, COCO_POLYGONS
from pyramidseg.formats.geojson.geojson_writer import GEOJSON
from pyramidseg.formats.label_studio.label_studio_writer import LABEL_STUDIO, LABEL_STUDIO_POLYGONS
from pyramidseg.formats.label_writer import LabelWriter
from pyramidseg.formats.paired_writer import COLOR_MASKS, MASKS
from pyramidseg.formats.yolo import yolo_dataset

LABEL_WRITERS: dict[str, LabelWriter] = {
    "masks": MASKS,
    "color-masks": COLOR_MASKS,
    "voc": voc.WRITER,
    "cvat-masks": voc.CVAT_WRITER,
    "coco": COCO,
    "coco-polygons": COCO_POLYGONS,
    "yolo": yolo_dataset.WRITER,
    "labelme": labelme.WRITER,
    "coco-panoptic": COCO_PANOPTIC,
    "cvat-images": cvat_images.WRITER,
    "label-studio": LABEL_STUDIO,
    "label-studio-polygons": LABEL_STUDIO_POLYGONS,
    "supervisely": supervisely.WRITER,
    "huggingface": huggingface.WRITER,
    "geojson": GEOJSON,
}


def label_writer(name: str, classes: Classes, *, label_config: str | None = None) -> LabelWriter:
    """The writer of a format for these classes.

    Args:
        label_config: the labelling configuration of the project that the labels are for.

    Raises:
        ConfigError: the format cannot hold the name of a class, the project has no label for a class, or the format has
            no labelling configuration.
    """
    writer = LABEL_WRITERS[name]
    writer.check_names(classes, to=name)
    if label_config is None:
        return writer
    if writer.for_project is None:
        known = ", ".join(name for name, other in LABEL_WRITERS.items() if other.for_project)
        raise ConfigError(f"`label_config`: {name} has no labelling configuration; leave it out, or write {known}")
    return writer.for_project(label_config, classes)
