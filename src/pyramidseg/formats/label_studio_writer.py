"""Writers of Label Studio's JSON: a task for each image, with brushes or polygons, and the labelling config."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.brush_rle import encode_brush
from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_regions import Outlines, corner_words, lost_ignored, not_outlined, outlined_classes
from pyramidseg.formats.label_studio import LABEL_CONFIG
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels, joined
from pyramidseg.formats.polygon_labels import drawn_name

FROM_NAME, POLYGON_NAME, TO_NAME, IMAGE_KEY = "label", "polygon", "image", "image"
"""Names in the labelling config."""


def brush_regions(labels_HW: NDArray[np.uint8], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """A region for each class that occurs.

    Args:
        names: of the labels, by class id; other classes have no region.
    """
    height, width = labels_HW.shape
    return [
        {"id": f"class{value}", **_region("brushlabels", FROM_NAME, brush, height=height, width=width)}
        for value, name in names.items()
        if (pixels := labels_HW == value).any()
        for brush in [{"format": "rle", "rle": encode_brush(pixels), "brushlabels": [name]}]
    ]


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    indices = {classes.names[index]: index for index in outlined_classes(classes)}
    regions = brush_regions(image.labels, {index: name for name, index in indices.items()})
    for region in regions:
        region |= image.score(image.labels == indices[region["value"]["brushlabels"][0]])
    return _task(image, regions, lost_ignored(image.labels))


def _encode_polygons(image: LabelledImage, classes: Classes) -> WrittenLabels:
    """A polygon for each connected region; a brush for one with holes, which Label Studio's polygons cannot have."""
    height, width = image.labels.shape
    outlines = Outlines.of(image, skip=not_outlined(classes))
    words, offsets = corner_words(width, height, 100, "[{!r}, ", "{!r}], "), np.array([0, width + 1])
    regions: list[dict[str, Any]] = []
    points: list[str] = []
    for number, found in enumerate(outlines.regions):
        name = classes.names[found.value]
        value = {"points": [], "polygonlabels": [name], "closed": True}
        own = [_region("polygonlabels", POLYGON_NAME, value, height=height, width=width)]
        if len(found.rings) > 1:
            own = brush_regions((outlines.numbers == found.number).view(np.uint8), {1: name})
        else:
            points.append("".join(words[(found.rings[0] + offsets).ravel()].tolist())[:-2])
        scores = {} if image.confidence is None else image.score(*outlines.pixels(found))
        regions += [region | {"id": f"region{number}"} | scores for region in own]
    written = _task(image, regions, outlines.lost())
    # `json` would need most of the time for the points. In a string, the second quote here would have a backslash.
    first, *others = written.part.split('"points": []')
    text = first + "".join(f'"points": [{own}]{more}' for own, more in zip(points, others, strict=True))
    return replace(written, part=text)


def _region(kind: str, control: str, value: dict[str, Any], *, height: int, width: int) -> dict[str, Any]:
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    return {"from_name": control, "to_name": TO_NAME, "type": kind, **size, "value": value}


def _task(image: LabelledImage, regions: list[dict[str, Any]], lost: dict[str, int]) -> WrittenLabels:
    path = quote(f"{image.split}/{image.name}{image.image.suffix}")
    task: dict[str, Any] = {"data": {IMAGE_KEY: f"/data/local-files/?d=images/{path}"}}
    if image.model:
        task["predictions"] = [
            {"model_version": image.model, "result": regions, **image.score(np.ones_like(image.labels, bool))}
        ]
    else:
        task["annotations"] = [{"result": regions}]
    return WrittenLabels(part=json.dumps(task), lost=lost)


def _assemble(parts: Mapping[str, Parts], classes: Classes, *, polygons: bool = False) -> SharedFiles:
    for split, some in parts.items():
        yield f"{split}.json", chain([b"[\n"], joined(task.encode() for _, task in some), [b"\n]\n"])
    yield LABEL_CONFIG, iter([label_config(classes, polygons=polygons).encode()])


def label_config(classes: Classes, *, polygons: bool = False) -> str:
    """The labelling config of a project for these classes."""
    labels = [
        f'    <Label value={quoteattr(classes.names[index])} background="#{bytes(classes.colors[index]).hex()}"/>'
        for index in outlined_classes(classes)
    ]
    image = f'<Image name="{TO_NAME}" value="${IMAGE_KEY}" zoom="true"/>'
    controls = {"BrushLabels": FROM_NAME} | ({"PolygonLabels": POLYGON_NAME} if polygons else {})
    lines = [
        line
        for tag, name in controls.items()
        for line in (f'  <{tag} name="{name}" toName="{TO_NAME}">', *labels, f"  </{tag}>")
    ]
    return "\n".join(("<View>", f"  {image}", *lines, "</View>", ""))


LABEL_STUDIO = LabelWriter("images/{split}/{name}", _encode, _assemble, read_as=drawn_name)
LABEL_STUDIO_POLYGONS = replace(
    LABEL_STUDIO, encode=_encode_polygons, assemble=partial(_assemble, polygons=True), has_outlines=True
)
