"""The writers of all formats by the name that `convert --to` and `predict --save` take."""

from pyramidseg.formats.coco.coco_writer import COCO, COCO_PANOPTIC, COCO_POLYGONS
from pyramidseg.formats.cvat_images_writer import CVAT_IMAGES
from pyramidseg.formats.geojson.geojson_writer import GEOJSON
from pyramidseg.formats.huggingface_writer import HUGGINGFACE
from pyramidseg.formats.label_studio_writer import LABEL_STUDIO, LABEL_STUDIO_POLYGONS
from pyramidseg.formats.label_writer import LabelWriter
from pyramidseg.formats.labelme_writer import LABELME
from pyramidseg.formats.paired_writer import COLOR_MASKS, MASKS
from pyramidseg.formats.supervisely_writer import SUPERVISELY
from pyramidseg.formats.voc_writer import VOC
from pyramidseg.formats.yolo_writer import YOLO

LABEL_WRITERS: dict[str, LabelWriter] = {
    "masks": MASKS,
    "color-masks": COLOR_MASKS,
    "voc": VOC,
    "coco": COCO,
    "coco-polygons": COCO_POLYGONS,
    "yolo": YOLO,
    "labelme": LABELME,
    "coco-panoptic": COCO_PANOPTIC,
    "cvat-images": CVAT_IMAGES,
    "label-studio": LABEL_STUDIO,
    "label-studio-polygons": LABEL_STUDIO_POLYGONS,
    "supervisely": SUPERVISELY,
    "huggingface": HUGGINGFACE,
    "geojson": GEOJSON,
}
