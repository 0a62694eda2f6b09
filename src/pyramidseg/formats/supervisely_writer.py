"""Writer of Supervisely: a bitmap for each connected region, and meta.json with the classes."""

import base64
import json
import zlib
from collections.abc import Mapping

import cv2
import numpy as np

from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_regions import BoxedRegion, boxed_regions, lost_ignored, outlined_classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels

CONFIDENCE = "confidence"


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    content = {
        "description": "",
        "tags": [],
        "size": {"height": height, "width": width},
        "objects": [
            {
                "classTitle": classes.names[region.value],
                "geometryType": "bitmap",
                "description": "",
                "tags": [
                    {"name": CONFIDENCE, "value": score} for score in image.score(region.pixels, region.box).values()
                ],
                "bitmap": {"origin": list(region.box[:2]), "data": _bitmap(region)},
            }
            for region in boxed_regions(image.labels, classes)
        ],
    }
    path = f"{image.split}/ann/{image.name}{image.image.suffix}.json"
    text = json.dumps(content, ensure_ascii=False)
    return WrittenLabels({path: text.encode()}, image.confidence is not None, lost=lost_ignored(image.labels))


def _bitmap(region: BoxedRegion) -> str:
    """A PNG of one bit in a zlib stream, which need not compress it again, in base64."""
    _, content = cv2.imencode(".png", region.pixels.view(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    return base64.b64encode(zlib.compress(content.tobytes(), 0)).decode()


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    is_scored = any(scored for some in parts.values() for _, scored in some)
    titles = [
        {
            "title": classes.names[index],
            "shape": "bitmap",
            "color": "#" + "".join(f"{channel:02X}" for channel in classes.colors[index]),
            "geometry_config": {},
        }
        for index in outlined_classes(classes)
    ]
    tags = [{"name": CONFIDENCE, "value_type": "any_number", "color": "#000000"}] if is_scored else []
    meta = json.dumps({"classes": titles, "tags": tags, "projectType": "images"}, ensure_ascii=False)
    yield "meta.json", iter([meta.encode()])


SUPERVISELY = LabelWriter("{split}/img/{name}", _encode, _assemble, is_flat=True)
