"""A folder that `nuctl deploy` makes a function of CVAT from, and what its main.py calls.

Source: serverless/*/nuclio and cvat/apps/lambda_manager/views.py of CVAT.
"""

import base64
import io
import json
import re
import shutil
from collections.abc import Collection, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.annotations.contours import TracedRegion, find_numbered_regions, one_ring
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.files import make_folder, refuse_existing, write_atomically, write_text
from pyramidseg.base.version import __version__
from pyramidseg.model.bundle import read_bundle
from pyramidseg.predict.predictor import Predictor

DrawnRegion = tuple[TracedRegion, float, tuple[int, int, int, int], NDArray[np.bool_]]

BUNDLE = "model.safetensors"
NOT_DRAWN = ("background",)
MAIN = f'''"""Labels images for CVAT; written by pyramidseg export --for cvat-nuclio."""

from pathlib import Path

from pyramidseg.export.cvat_nuclio import handler as handler
from pyramidseg.predict.predictor import Predictor


def init_context(context):
    context.user_data.predictor = Predictor(Path(__file__).with_name("{BUNDLE}"))
'''


def write_nuclio_folder(model: str | Path, out: str | Path) -> None:
    """Write function.yaml, main.py and the bundle.

    Raises:
        WeightsError: `model` is not a bundle, or is damaged.
        OutputError: the folder has files already, or cannot be written.
    """
    bundle, folder = read_bundle(model), Path(out)
    refuse_existing(folder, (BUNDLE, "main.py", "function.yaml"))
    if bundle.config.in_channels not in (1, 3) or bundle.config.input_bands not in (None, (1,), (1, 2, 3)):
        raise ConfigError(f"{model}: takes channels {bundle.config.channels}; CVAT sends images of 1 or 3 channels")
    stem = bundle.path.stem if bundle.path.stem not in ("best", "last") else bundle.path.resolve().parent.name
    name = "pyramidseg-" + (re.sub("[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].rstrip("-") or "model")
    drawn = [(index, label) for index, label in enumerate(bundle.classes.names) if label not in NOT_DRAWN]
    labels = json.dumps([{"id": index, "name": label, "type": "mask"} for index, label in drawn])
    template = (files("pyramidseg.export") / "cvat_nuclio.yaml").read_text(encoding="utf-8")
    make_folder(folder)
    write_atomically(folder / BUNDLE, partial(shutil.copyfile, bundle.path))
    write_text(folder / "main.py", MAIN)
    write_text(folder / "function.yaml", template.format(name=name, labels=labels, version=__version__))


def regions_of(predictor: Predictor, image: Image.Image, *, without: Collection[str]) -> Iterator[DrawnRegion]:
    """The regions of an image, except those of the classes `without`: with mean confidence, box, and mask in the box.

    A box is left, top, right, bottom in pixels, both corners inclusive.
    """
    grey = predictor.backend.in_channels == 1
    found = predictor.predict(np.atleast_3d(np.asarray(image.convert("L" if grey else "RGB"))), confidence=True)
    assert found.confidence is not None
    skip = [index for index, name in enumerate(predictor.classes.names) if name in without]
    regions, numbers = find_numbered_regions(found.labels, skip=skip)
    sums, sizes = np.bincount(numbers.ravel(), found.confidence.ravel()), np.bincount(numbers.ravel())
    for region in regions:
        (left, top), (right, bottom) = region.rings[0].min(0).tolist(), region.rings[0].max(0).tolist()
        mask = numbers[top:bottom, left:right] == region.number
        yield region, float(sums[region.number] / sizes[region.number]), (left, top, right - 1, bottom - 1), mask


def handler(context: Any, event: Any) -> Any:
    """Answer CVAT: `{"image": base64, "threshold": least confidence}` gets a list of masks."""
    predictor: Predictor = context.user_data.predictor
    image = Image.open(io.BytesIO(base64.b64decode(event.body["image"])))
    threshold = float(event.body.get("threshold") or 0)
    shapes = [
        {
            "confidence": f"{confidence:.4f}",
            "label": predictor.classes.names[region.value],
            "type": "mask",
            "points": one_ring(region.rings).astype(float).ravel().tolist(),
            "mask": [*mask.ravel().astype(int).tolist(), *box],
        }
        for region, confidence, box, mask in regions_of(predictor, image, without=NOT_DRAWN)
        if confidence >= threshold
    ]
    return context.Response(body=json.dumps(shapes), headers={}, content_type="application/json", status_code=200)
