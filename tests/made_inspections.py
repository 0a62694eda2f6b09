"""What tests of inspections share."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from planted_pairs import scene
from pyramidseg.base.defects import DefectKind
from pyramidseg.inspection.inspect_dataset import Inspection


def defects(inspection: Inspection) -> set[tuple[DefectKind, str]]:
    return {(defect.kind, defect.file.name) for defect in inspection.defects}


def masks_of(folder: Path, *values: Any, count: int = 4) -> Path:
    """A paired dataset without a class list, whose masks are all made of these values or colours."""
    rng = np.random.default_rng(0)
    for index in range(count):
        image, _ = scene(rng)
        mask = np.resize(np.array(values, np.uint8), (*image.shape[:2], *np.shape(values)[1:]))
        for kind, pixels in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{index}.png")
    return folder
