"""Writer of Label Studio's JSON: a task for each image with a brush region for each class, and the labelling config."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.brush_rle import encode_brush
from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_writer import (
    LabelledImage,
    LabelWriter,
    Parts,
    SharedFiles,
    WrittenLabels,
    joined,
    lost_ignored,
    outlined_classes,
)

FROM_NAME, TO_NAME, IMAGE_KEY = "label", "image", "image"
"""Names in the labelling config."""


def brush_regions(labels_HW: NDArray[np.uint8], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """A region for each class that occurs.

    Args:
        names: of the labels, by class id; other classes have no region.
    """
    height, width = labels_HW.shape
    return [
        {
            "id": f"class{value}",
            "from_name": FROM_NAME,
            "to_name": TO_NAME,
            "type": "brushlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {"format": "rle", "rle": encode_brush(labels_HW == value), "brushlabels": [name]},
        }
        for value, name in names.items()
        if (labels_HW == value).any()
    ]


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    indices = {classes.names[index]: index for index in outlined_classes(classes)}
    regions = brush_regions(image.labels, {index: name for name, index in indices.items()})
    for region in regions:
        region |= image.score(image.labels == indices[region["value"]["brushlabels"][0]])
    path = quote(f"{image.split}/{image.name}{image.image.suffix}")
    task: dict[str, Any] = {"data": {IMAGE_KEY: f"/data/local-files/?d=images/{path}"}}
    if image.model:
        task["predictions"] = [
            {"model_version": image.model, "result": regions, **image.score(np.ones_like(image.labels, bool))}
        ]
    else:
        task["annotations"] = [{"result": regions}]
    return WrittenLabels(part=task, lost=lost_ignored(image.labels))


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    for split, some in parts.items():
        yield f"{split}.json", _tasks(some)
    yield "label_config.xml", iter([label_config(classes).encode()])


def _tasks(parts: Parts) -> Iterator[bytes]:
    yield b"[\n"
    yield from joined(json.dumps(task).encode() for _, task in parts)
    yield b"\n]\n"


def label_config(classes: Classes) -> str:
    """The labelling config of a project for these classes."""
    labels = [
        f'    <Label value={quoteattr(classes.names[index])} background="#{bytes(classes.colors[index]).hex()}"/>'
        for index in outlined_classes(classes)
    ]
    image = f'<Image name="{TO_NAME}" value="${IMAGE_KEY}" zoom="true"/>'
    opened = f'<BrushLabels name="{FROM_NAME}" toName="{TO_NAME}">'
    return "\n".join(("<View>", f"  {image}", f"  {opened}", *labels, "  </BrushLabels>", "</View>", ""))


LABEL_STUDIO = LabelWriter("images/{split}/{name}", _encode, _assemble)
