"""The picture of polygons in docs/prediction.md: the labels of a synthetic scene, exact, and with `--simplify` 1 and 3.

python docs/make_polygon_picture.py docs/images/polygons.png
"""

import sys

import cv2
import numpy as np

from pyramidseg.annotations.contours import find_regions
from pyramidseg.demo.scenes import SCENE_CLASSES, draw_scene

SCALE, TOP, LEFT, HEIGHT, WIDTH = 5, 60, 70, 90, 90


def main() -> None:
    """Three columns: the outlines of all regions over the same part of the scene, corners as dots."""
    image, labels = draw_scene(1008, height=192, width=256)
    columns = []
    for tolerance in (0.0, 1.0, 3.0):
        shown = (image * 0.5 + SCENE_CLASSES.colorize(labels) * 0.5).astype(np.uint8)
        picture = cv2.resize(shown, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
        for region in find_regions(labels, simplify_px=tolerance):
            for ring in region.rings:
                cv2.polylines(picture, [(ring * SCALE).astype(np.int32)], True, (255, 255, 255), 1)
                for x, y in (ring * SCALE).tolist():
                    cv2.circle(picture, (x, y), 2, (200, 0, 0), -1)
        columns.append(picture[TOP * SCALE : (TOP + HEIGHT) * SCALE, LEFT * SCALE : (LEFT + WIDTH) * SCALE])
    gap = np.full((HEIGHT * SCALE, 8, 3), 255, np.uint8)
    picture = np.hstack([columns[0], gap, columns[1], gap, columns[2]])
    cv2.imwrite(sys.argv[1], picture[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
