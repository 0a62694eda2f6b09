"""CVAT's auto-annotation function: a task is labelled from the command line, without a server beside CVAT's.

    cvat-cli task auto-annotate 42 --function-file cvat_function.py -p model=str:run/best.safetensors

Each connected region becomes a mask, or a polygon with --conv-mask-to-poly; --conf-threshold leaves out regions whose
mean confidence is lower. CVAT finds labels by name: the task needs those of the classes, or give
--allow-unmatched-labels.
"""

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import PIL.Image
from cvat_sdk.masks import encode_mask
from cvat_sdk.models import LabeledShapeRequest

import pyramidseg as ps
from pyramidseg.annotations.contours import find_regions, number_regions
from pyramidseg.formats.yolo_writer import one_ring


class CvatFunction:
    """A model as CVAT's SDK calls it; `without` are classes that are not drawn."""

    def __init__(self, predictor: ps.Predictor, without: set[str]) -> None:
        self._predictor = predictor
        self._skip = {index for index, name in enumerate(predictor.classes.names) if name in without}
        named = [pair for pair in enumerate(predictor.classes.names) if pair[0] not in self._skip]
        self.spec = cvataa.DetectionFunctionSpec(
            labels=[cvataa.label_spec(name, index, type="mask") for index, name in named]
        )

    def detect(self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image) -> list[LabeledShapeRequest]:
        """The regions of an image."""
        grey = self._predictor.backend.in_channels == 1
        pixels = np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB")))
        found = self._predictor.predict(pixels, confidence=True)
        assert found.confidence is not None
        numbers = number_regions(found.labels, skip=self._skip)
        shapes = []
        for number in range(1, int(numbers.max(initial=0)) + 1):
            region = numbers == number
            value = int(found.labels[region][0])
            if float(found.confidence[region].mean()) < (context.conf_threshold or 0):
                continue
            if context.conv_mask_to_poly:
                (outline,) = find_regions(region.astype(np.uint8), skip=(0,))
                shapes.append(cvataa.polygon(value, one_ring(outline.rings).astype(float).ravel().tolist()))
            else:
                shapes.append(cvataa.mask(value, encode_mask(region)))
        return shapes


def create(
    model: str, backend: str = "auto", device: str = "auto", tta: bool = False, without: str = "background"
) -> CvatFunction:
    """What `cvat-cli` calls with the values of `-p`; `without` are names with commas between them."""
    predictor = ps.Predictor(model, backend=backend, device=device, tta=tta)
    return CvatFunction(predictor, set(without.split(",")))
