"""Writers of COCO: instances (compressed run lengths or polygons of each connected region, exact), and panoptic."""

import itertools
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np

from pyramidseg.annotations.contours import number_regions
from pyramidseg.annotations.run_lengths import compress_run_lengths, encode_regions
from pyramidseg.base.classes import Classes
from pyramidseg.formats.coco.categories import VOID_NAME
from pyramidseg.formats.label_regions import Outlines, lost_ignored, not_outlined, outlined_classes, pixels_in
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels, joined
from pyramidseg.formats.paired_writer import png
from pyramidseg.formats.polygon_labels import drawn_name

IMAGES = "images/{split}/{name}"


def _encode(image: LabelledImage, classes: Classes, *, polygons: bool = False) -> WrittenLabels:
    """With `polygons`, run lengths only of regions with holes, which COCO's polygons cannot have."""
    height, width = image.labels.shape
    outlined, skip = outlined_classes(classes), not_outlined(classes)
    outlines = Outlines.of(image, skip=skip) if polygons else None
    numbers = outlines.numbers if outlines else number_regions(image.labels, skip=skip)
    traced = {region.number: region for region in outlines.regions} if outlines else {}
    found = encode_regions(numbers)
    holed = [number for number in found if number not in traced or len(traced[number].rings) > 1]
    texts = dict(zip(holed, compress_run_lengths(found[number].counts for number in holed), strict=True))
    annotations = []
    for number, region in found.items():
        outline = traced.get(number)
        annotation: dict[str, Any] = {
            "category_id": outlined.index(outline.value if outline else int(image.labels[region.first])) + 1,
            "segmentation": {"size": [height, width], "counts": texts.get(number)},
            "area": region.area,
            "bbox": list(region.box),
            "iscrowd": 0,
        }
        if outline and number not in texts:
            annotation["segmentation"] = [outline.rings[0].ravel().tolist()]
        if image.confidence is not None:
            annotation |= image.score(pixels_in(region.box, numbers, number), region.box)
        annotations.append(annotation)
    lost = outlines.lost() if outlines else lost_ignored(image.labels)
    return WrittenLabels(part=_part(image, annotations), lost=lost)


def _part(image: LabelledImage, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry of an image, and its annotations as text without the first bracket, after which their ids follow."""
    height, width = image.labels.shape
    entry = {"file_name": image.name + image.image.suffix, "height": height, "width": width}
    return {"image": entry, "annotations": [json.dumps(annotation)[1:] for annotation in annotations]}


def _assemble(parts: Mapping[str, Parts], classes: Classes, *, panoptic: bool = False) -> SharedFiles:
    categories: list[dict[str, Any]] = [
        {"id": place, "name": classes.names[index], "supercategory": "", "color": list(classes.colors[index])}
        for place, index in enumerate(range(len(classes)) if panoptic else outlined_classes(classes), start=1)
    ]
    for category in categories if panoptic else ():
        category["isthing"] = 0
    for split, some in parts.items():
        yield f"annotations/{'panoptic' if panoptic else 'instances'}_{split}.json", _content(some, categories)


def _content(parts: Parts, categories: list[dict[str, Any]]) -> Iterator[bytes]:
    yield b'{"info": {"description": "written by pyramidseg"}, "licenses": [],\n"categories": '
    yield json.dumps(categories).encode() + b',\n"images": [\n'
    yield from joined(
        json.dumps({"id": number, **part["image"]}).encode() for number, (_, part) in enumerate(parts, start=1)
    )
    yield b'\n],\n"annotations": [\n'
    ids = itertools.count(1)
    yield from joined(
        ",\n".join(f'{{"id": {next(ids)}, "image_id": {number}, {text}' for text in part["annotations"]).encode()
        for number, (_, part) in enumerate(parts, start=1)
        if part["annotations"]
    )
    yield b"\n]}\n"


# Panoptic: a segment for each class, so that background and ignored pixels (void) are kept.


def _encode_panoptic(image: LabelledImage, classes: Classes) -> WrittenLabels:
    numbers = image.labels + np.uint8(1)  # which makes `IGNORE` 0, void
    segments = [
        {"id": number, "category_id": number, "area": region.area, "bbox": list(region.box), "iscrowd": 0}
        for number, region in encode_regions(numbers).items()
    ]
    colors = cv2.merge([numbers, np.zeros_like(numbers), np.zeros_like(numbers)]).astype(np.uint8, copy=False)
    part = _part(image, [{"file_name": f"{image.name}.png", "segments_info": segments}])
    return WrittenLabels({f"annotations/panoptic_{image.split}/{image.name}.png": png(colors)}, part)


def _read_as(name: str) -> str:
    return "" if name.strip() == VOID_NAME else name.strip()


COCO_PANOPTIC = LabelWriter(IMAGES, _encode_panoptic, partial(_assemble, panoptic=True), read_as=_read_as)
COCO = LabelWriter(IMAGES, _encode, _assemble, read_as=drawn_name)
COCO_POLYGONS = LabelWriter(IMAGES, partial(_encode, polygons=True), _assemble, has_outlines=True, read_as=drawn_name)
