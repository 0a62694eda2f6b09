"""Writer of LabelMe's JSON files: polygons, and masks for regions with holes, which LabelMe's polygons cannot have."""

import base64
import json
from typing import Any

import numpy as np

from pyramidseg.annotations.contours import Region
from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_regions import Outlines, lost_ignored, not_outlined
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, WrittenLabels
from pyramidseg.formats.paired_writer import png


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    outlines = Outlines.of(image, skip=not_outlined(classes))
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [_shape(region, classes, outlines) for region in outlines.regions],
        "imagePath": image.name.rpartition("/")[2] + image.image.suffix,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    text = json.dumps(content, ensure_ascii=False)
    files = {f"{image.split}/{image.name}.json": text.encode()}
    return WrittenLabels(files, lost=lost_ignored(image.labels) | outlines.lost())


def _shape(region: Region, classes: Classes, outlines: Outlines) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": classes.names[region.value], "group_id": None, "description": "", "flags": {}}
    if len(region.rings) == 1:
        return {**shape, "shape_type": "polygon", "points": region.rings[0].tolist(), "mask": None}
    mask, (left, top, width, height) = outlines.pixels(region)
    picture = base64.b64encode(png(255 * mask.astype(np.uint8))).decode()
    points = [[left, top], [left + width - 1, top + height - 1]]
    return {**shape, "shape_type": "mask", "points": points, "mask": picture}


LABELME = LabelWriter("{split}/{name}", _encode, lambda parts, classes: iter(()), has_outlines=True)
