"""The writers of all formats by the name that `convert --to` and `predict --save` take."""

from pyramidseg.formats import cvat_images, huggingface, labelme, supervisely, voc, yolo
from pyramidseg.formats.coco.coco_writer import COCO, COCO_PANOPTIC, COCO_POLYGONS
from pyramidseg.formats.geojson.geojson_writer import GEOJSON
from pyramidseg.formats.label_studio_writer import LABEL_STUDIO, LABEL_STUDIO_POLYGONS
from pyramidseg.formats.label_writer import LabelWriter
from pyramidseg.formats.paired_writer import COLOR_MASKS, MASKS

LABEL_WRITERS: dict[str, LabelWriter] = {
    "masks": MASKS,
    "color-masks": COLOR_MASKS,
    "voc": voc.WRITER,
    "coco": COCO,
    "coco-polygons": COCO_POLYGONS,
    "yolo": yolo.WRITER,
    "labelme": labelme.WRITER,
    "coco-panoptic": COCO_PANOPTIC,
    "cvat-images": cvat_images.WRITER,
    "label-studio": LABEL_STUDIO,
    "label-studio-polygons": LABEL_STUDIO_POLYGONS,
    "supervisely": supervisely.WRITER,
    "huggingface": huggingface.WRITER,
    "geojson": GEOJSON,
}
