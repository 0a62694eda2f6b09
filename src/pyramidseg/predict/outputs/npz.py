"""NumPy archive of class probabilities."""

from pathlib import Path

import numpy as np

from pyramidseg.base.files import write_atomically
from pyramidseg.predict.segmentation import Image, Segmentation


def write_probabilities(path: Path, segmentation: Segmentation, image: Image) -> None:
    """`probabilities` (K, H, W) float16, and `classes`, the K names, as an .npz file."""
    assert segmentation.probabilities is not None, "this writer needs a segmentation with probabilities"
    probabilities = segmentation.probabilities.astype(np.float16)
    names = np.array(segmentation.classes.names)

    def write(part: Path) -> None:
        # As a file object: NumPy would append .npz to a path.
        with part.open("wb") as file:
            np.savez(file, probabilities=probabilities, classes=names)

    write_atomically(path, write)
