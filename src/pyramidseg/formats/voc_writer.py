"""Writer of Pascal VOC's layout, as CVAT's "Segmentation mask 1.1" has it: colour masks, labelmap.txt and lists."""

from collections.abc import Iterator, Mapping

from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.paired_writer import IGNORE_COLOR, color_mask, distinct_colors, png

IGNORED_NAME = "void"


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    return WrittenLabels({f"SegmentationClass/{image.name}.png": png(color_mask(image.labels, classes))})


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    yield "labelmap.txt", _labelmap(classes)
    for split, some in parts.items():
        yield f"ImageSets/Segmentation/{split}.txt", (f"{name}\n".encode() for name, _ in some)


def _labelmap(classes: Classes) -> Iterator[bytes]:
    yield b"# label:color_rgb:parts:actions\n"
    colors = [*zip(classes.names, distinct_colors(classes), strict=True)]
    if IGNORED_NAME not in classes.names:
        colors.append((IGNORED_NAME, IGNORE_COLOR))
    for name, (red, green, blue) in colors:
        yield f"{name}:{red},{green},{blue}::\n".encode()


VOC = LabelWriter("JPEGImages/{name}", _encode, _assemble)
