"""Writer of COCO's instances: one annotation for each connected region, as compressed run lengths, which are exact."""

import json
from collections.abc import Iterator, Mapping

import numpy as np

from pyramidseg.annotations.contours import number_regions
from pyramidseg.annotations.run_lengths import compress_run_lengths, encode_regions
from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_writer import (
    LabelledImage,
    LabelWriter,
    Parts,
    SharedFiles,
    WrittenLabels,
    lost_ignored,
    not_outlined,
    outlined_classes,
)

IMAGES = "images/{split}/{name}"


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    outlined = outlined_classes(classes)
    regions = number_regions(image.labels, skip=not_outlined(classes))
    value_of = np.zeros(int(regions.max(initial=0)) + 1, np.uint8)
    value_of[regions.ravel()] = image.labels.ravel()
    annotations = [
        {
            "category_id": outlined.index(int(value_of[number])) + 1,
            "segmentation": {"size": [height, width], "counts": compress_run_lengths(region.counts)},
            "area": region.area,
            "bbox": list(region.box),
            "iscrowd": 0,
        }
        for number, region in encode_regions(regions).items()
    ]
    entry = {"file_name": image.name + image.image.suffix, "height": height, "width": width}
    return WrittenLabels(part={"image": entry, "annotations": annotations}, lost=lost_ignored(image.labels))


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    for split, some in parts.items():
        yield f"annotations/instances_{split}.json", _instances(some, classes)


def _instances(parts: Parts, classes: Classes) -> Iterator[bytes]:
    categories = [
        {"id": place, "name": classes.names[index], "supercategory": ""}
        for place, index in enumerate(outlined_classes(classes), start=1)
    ]
    yield b'{"info": {"description": "written by pyramidseg"}, "licenses": [],\n"categories": '
    yield json.dumps(categories).encode() + b',\n"images": [\n'
    for number, (_, part) in enumerate(parts, start=1):
        yield (b",\n" if number > 1 else b"") + json.dumps({"id": number, **part["image"]}).encode()
    yield b'\n],\n"annotations": [\n'
    annotation_id = 0
    for number, (_, part) in enumerate(parts, start=1):
        for annotation in part["annotations"]:
            annotation_id += 1
            line = json.dumps({"id": annotation_id, "image_id": number, **annotation}).encode()
            yield (b",\n" if annotation_id > 1 else b"") + line
    yield b"\n]}\n"


COCO = LabelWriter(IMAGES, _encode, _assemble)
