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
from pyramidseg.annotations.contours import one_ring
from pyramidseg.export.cvat_nuclio import regions_of


class CvatFunction:
    """A model as CVAT's SDK calls it; `without` are classes that are not drawn."""

    def __init__(self, predictor: ps.Predictor, without: set[str]) -> None:
        self._predictor, self._without = predictor, without
        named = [pair for pair in enumerate(predictor.classes.names) if pair[1] not in without]
        self.spec = cvataa.DetectionFunctionSpec(
            labels=[cvataa.label_spec(name, index, type="mask") for index, name in named]
        )

    def detect(self, context: cvataa.DetectionFunctionContext, image: PIL.Image.Image) -> list[LabeledShapeRequest]:
        """The regions of an image."""
        shapes = []
        for region, confidence, (left, top, right, bottom), drawn in regions_of(
            self._predictor, image, without=self._without
        ):
            if confidence < (context.conf_threshold or 0):
                continue
            if context.conv_mask_to_poly:
                outline = one_ring(region.rings).astype(float).ravel().tolist()
                shapes.append(cvataa.polygon(region.value, outline))
            else:
                mask = np.zeros((image.height, image.width), bool)
                mask[top : bottom + 1, left : right + 1] = drawn
                shapes.append(cvataa.mask(region.value, encode_mask(mask)))
        return shapes


def create(
    model: str, backend: str = "auto", device: str = "auto", tta: bool = False, without: str = "background"
) -> CvatFunction:
    """What `cvat-cli` calls with the values of `-p`; `without` are names with commas between them."""
    predictor = ps.Predictor(model, backend=backend, device=device, tta=tta)
    return CvatFunction(predictor, set(without.split(",")))
