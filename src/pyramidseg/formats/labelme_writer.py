"""Writer of LabelMe's JSON files: polygons, and masks for regions with holes, which LabelMe's polygons cannot have."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyramidseg.annotations.contours import Region
from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_writer import (
    LabelledImage,
    LabelWriter,
    Parts,
    SharedFiles,
    WrittenLabels,
    lost_ignored,
    not_outlined,
    outlined_regions,
    pixels_of,
)
from pyramidseg.formats.paired_writer import png


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    regions, moved = outlined_regions(image, skip=not_outlined(classes))
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [_shape(region, classes, image) for region in regions],
        "imagePath": image.name.rpartition("/")[2] + image.image.suffix,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    text = json.dumps(content, ensure_ascii=False)
    return WrittenLabels({f"{image.split}/{image.name}.json": text.encode()}, lost=lost_ignored(image.labels) | moved)


def _shape(region: Region, classes: Classes, image: LabelledImage) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": classes.names[region.value], "group_id": None, "description": "", "flags": {}}
    outer, *holes = region.rings
    if not holes:
        return {**shape, "shape_type": "polygon", "points": outer.tolist(), "mask": None}
    first, last = outer.min(0), outer.max(0)
    mask = pixels_of(region, image)[first[1] : last[1], first[0] : last[0]]
    picture = base64.b64encode(png(255 * mask.astype(np.uint8))).decode()
    return {**shape, "shape_type": "mask", "points": [first.tolist(), (last - 1).tolist()], "mask": picture}


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    return iter(())


LABELME = LabelWriter("{split}/{name}", _encode, _assemble, has_outlines=True)
