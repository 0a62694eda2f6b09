"""Writer of YOLO's outlines: a line for each region in a text file for each image, and data.yaml.

YOLO has no holes: a hole is joined to its outer ring by a cut of no width, so that an even-odd fill leaves it open.
"""

from collections.abc import Mapping

import numpy as np
import yaml
from numpy.typing import NDArray

from pyramidseg.annotations.contours import Ring
from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_regions import Outlines, corner_words, lost_ignored, not_outlined, outlined_classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    words, offsets = corner_words(width, height, 1, "{:.8g}", "{:.8g}"), np.array([0, width + 1])
    numbers = {index: number for number, index in enumerate(outlined_classes(classes))}
    outlines = Outlines.of(image, skip=not_outlined(classes))
    lines = [
        f"{numbers[region.value]} {' '.join(words[(one_ring(region.rings) + offsets).ravel()].tolist())}\n"
        for region in outlines.regions
    ]
    files = {f"labels/{image.split}/{image.name}.txt": "".join(lines).encode()}
    return WrittenLabels(files, lost=lost_ignored(image.labels) | outlines.lost())


def one_ring(rings: list[Ring]) -> NDArray[np.int64]:
    """A region as one ring that visits its holes: from a corner of what there is, to the nearest corner of a hole."""
    outline, *holes = rings
    for hole in holes:
        across, down = (np.abs(np.subtract.outer(outline[:, axis], hole[:, axis])) for axis in (0, 1))
        apart = across + down
        place, entry = np.unravel_index(int(apart.argmin()), apart.shape)
        round_trip = np.concatenate(
            [outline[place : place + 1], np.roll(hole, -entry, axis=0), hole[entry : entry + 1]]
        )
        outline = np.concatenate([outline[:place], round_trip, outline[place:]])
    return outline


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    # No path: Ultralytics would look for a relative one in the working directory.
    splits = {split: f"images/{split}" for split in parts}
    names = {number: classes.names[index] for number, index in enumerate(outlined_classes(classes))}
    text = yaml.safe_dump({**splits, "names": names}, sort_keys=False, allow_unicode=True)
    yield "data.yaml", iter([text.encode()])


YOLO = LabelWriter("images/{split}/{name}", _encode, _assemble, has_outlines=True)
