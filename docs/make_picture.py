"""The README's picture: synthetic scenes, what a bundle of the demo makes of them, and where it errs.

python docs/make_picture.py runs/demo/run/best.safetensors docs/images/demo.jpg
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from pyramidseg import Predictor
from pyramidseg.demo.scenes import draw_scene

SCENES = (1009, 1012, 1016)
HEIGHT, WIDTH, GAP = 192, 256, 6


def main() -> None:
    """A row a scene: image, prediction over it, errors in red."""
    predictor = Predictor(sys.argv[1])
    rows = []
    for index in SCENES:
        image, truth = draw_scene(index, height=HEIGHT, width=WIDTH)
        result = predictor.predict(image)
        errors = (image * 0.35 + 120).astype(np.uint8)
        errors[result.labels != truth] = (214, 39, 40)
        gap = np.full((HEIGHT, GAP, 3), 255, np.uint8)
        rows += [np.hstack([image, gap, result.overlay(image, alpha=0.65), gap, errors]), None]
    line = np.full((GAP, 3 * WIDTH + 2 * GAP, 3), 255, np.uint8)
    picture = np.vstack([line if row is None else row for row in rows[:-1]])
    Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(sys.argv[2], picture[:, :, ::-1])


if __name__ == "__main__":
    main()
