"""The writers of all formats by the name that `convert --to` takes."""

from pyramidseg.formats.coco.coco_writer import COCO
from pyramidseg.formats.label_writer import LabelWriter
from pyramidseg.formats.labelme_writer import LABELME
from pyramidseg.formats.paired_writer import COLOR_MASKS, MASKS
from pyramidseg.formats.voc_writer import VOC
from pyramidseg.formats.yolo_writer import YOLO

WRITERS: dict[str, LabelWriter] = {
    "masks": MASKS,
    "color-masks": COLOR_MASKS,
    "voc": VOC,
    "coco": COCO,
    "yolo": YOLO,
    "labelme": LABELME,
}
