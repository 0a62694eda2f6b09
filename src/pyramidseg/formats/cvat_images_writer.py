"""Writer of CVAT for images 1.1: annotations.xml with a mask for each connected region."""

from collections.abc import Iterator, Mapping
from xml.sax.saxutils import quoteattr

import numpy as np

from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_regions import BoxedRegion, boxed_regions, lost_ignored, outlined_classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, WrittenLabels


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    source = "auto" if image.model else "manual"
    names = [quoteattr(name) for name in classes.names]
    masks = "".join(_mask(region, names[region.value], source) for region in boxed_regions(image.labels, classes))
    name = quoteattr(f"{image.split}/{image.name}{image.image.suffix}")
    element = f'name={name} subset="{image.split}" width="{width}" height="{height}">\n{masks}'
    return WrittenLabels(part=element, lost=lost_ignored(image.labels))


def _mask(region: BoxedRegion, name: str, source: str) -> str:
    """Run lengths row by row within the box, the first of pixels outside of the region."""
    left, top, width, height = region.box
    flat = region.pixels.ravel()
    borders = np.concatenate([[0] * (1 + flat[0]), np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    runs = str((borders[1:] - borders[:-1]).tolist())[1:-1]
    return (
        f'    <mask label={name} source="{source}" occluded="0" rle="{runs}" '
        f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="0"></mask>\n'
    )


def _content(parts: Mapping[str, Parts], classes: Classes) -> Iterator[bytes]:
    yield b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta><project>\n'
    tasks = "".join(f"<task><subset>{split}</subset></task>" for split in parts)
    yield f"  <tasks>{tasks}</tasks>\n  <labels>\n".encode()
    for index in outlined_classes(classes):
        name, color = quoteattr(classes.names[index])[1:-1], bytes(classes.colors[index]).hex()
        yield f"    <label><name>{name}</name><color>#{color}</color><attributes></attributes></label>\n".encode()
    yield b"  </labels>\n  </project></meta>\n"
    number = 0
    for some in parts.values():
        for _, element in some:
            yield f'  <image id="{number}" {element}  </image>\n'.encode()
            number += 1
    yield b"</annotations>\n"


CVAT_IMAGES = LabelWriter("images/{split}/{name}", _encode, lambda *all: iter([("annotations.xml", _content(*all))]))
