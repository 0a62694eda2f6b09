"""A result in the forms that clients ask for: pictures, JSON, an archive."""

import io
import json
import re
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyramidseg.annotations.contours import find_regions
from pyramidseg.annotations.run_lengths import compress_run_lengths, encode_regions
from pyramidseg.base.text import base64_text
from pyramidseg.images.georeference import read_georeference
from pyramidseg.predict.outputs import output_writers as writers
from pyramidseg.predict.predictor import PredictionResult
from pyramidseg.predict.segmentation import OutputOptions, Segmentation
from pyramidseg.serve.limits import Refused

INCLUDES = ("labels", "confidence", "polygons", "run_lengths")
"""What the JSON answer can have besides classes and sizes."""


class Answer(NamedTuple):
    """A result, with what else an answer reports; `started` is a time of `time.monotonic`."""

    result: PredictionResult
    segmentation: Segmentation
    model: str
    include: Collection[str]
    request_id: str
    started: float


class AnswerFormat(NamedTuple):
    """One form of an answer: encoded in a thread, with what it needs besides labels."""

    media_type: str
    encode: Callable[[Answer], bytes]
    options: OutputOptions = OutputOptions()


def encode_json(answer: Answer) -> bytes:
    """Classes with their shares, and what `include` names."""
    labels, classes, include = answer.segmentation.labels, answer.segmentation.classes, answer.include
    shares = answer.segmentation.shares()
    colored = enumerate(zip(classes.names, classes.colors, strict=True))
    content: dict[str, Any] = {
        "model": answer.model,
        "width": labels.shape[1],
        "height": labels.shape[0],
        "classes": [
            {"index": index, "name": name, "color": list(color), "share": shares.get(name, 0.0)}
            for index, (name, color) in colored
        ],
    }
    if "labels" in include:
        content["labels_png"] = base64_text(writers.encode_png(labels))
    if "confidence" in include:
        content["confidence_png"] = base64_text(writers.encode_confidence(answer.segmentation))
    if "polygons" in include:
        regions = find_regions(labels)
        content["polygons"] = [{"class": one.value, "rings": [ring.tolist() for ring in one.rings]} for one in regions]
    if "run_lengths" in include:
        runs = encode_regions(labels.astype(np.int32) + 1)
        texts = compress_run_lengths(region.counts for region in runs.values())
        content["run_lengths"] = [
            {"class": number - 1, "size": list(labels.shape), "counts": text}
            for number, text in zip(runs, texts, strict=True)
        ]
    seconds = round(time.monotonic() - answer.started, 4)
    return json.dumps(content | {"seconds": seconds, "request_id": answer.request_id}).encode()


def encode_roboflow(answer: Answer) -> bytes:
    """Roboflow's answer for semantic segmentation."""
    height, width = answer.segmentation.labels.shape
    names = {str(index): name for index, name in enumerate(answer.segmentation.classes.names)}
    mask = {"segmentation_mask": base64_text(writers.encode_png(answer.segmentation.labels)), "class_map": names}
    return json.dumps({"predictions": mask, "image": {"width": width, "height": height}}).encode()


def _encode_npz(answer: Answer) -> bytes:
    file = io.BytesIO()
    writers.save_probabilities(file, answer.segmentation)
    return file.getvalue()


def _encode_overlay(answer: Answer) -> bytes:
    assert answer.result.image is not None
    return writers.encode_png(answer.segmentation.overlay(answer.result.image))


def _encode_geotiff(answer: Answer) -> bytes:
    assert isinstance(answer.result.source, bytes)
    place = read_georeference(Path("image"), answer.result.source)
    if place is None:
        raise Refused(400, "format=geotiff: the image has no georeference; send a GeoTIFF, or ask for format=labels")
    return writers.encode_label_geotiff(replace(answer.segmentation, georeference=place))


FORMATS = {
    "labels": AnswerFormat("image/png", lambda answer: writers.encode_png(answer.segmentation.labels)),
    "overlay": AnswerFormat("image/png", _encode_overlay),
    "confidence": AnswerFormat(
        "image/png", lambda answer: writers.encode_confidence(answer.segmentation), OutputOptions(confidence=True)
    ),
    "json": AnswerFormat("application/json", encode_json),
    "roboflow": AnswerFormat("application/json", encode_roboflow),
    "geotiff": AnswerFormat("image/tiff", _encode_geotiff),
    "npz-probabilities": AnswerFormat("application/x-npz", _encode_npz, OutputOptions(probabilities=True)),
}
"""Forms by the name that `format` takes."""

BY_TYPE = ("json", "labels", "geotiff", "npz-probabilities")
"""The form for each media type; the first ones for types such as `*/*`."""


def format_for(accept: str) -> str:
    """The form for a header `Accept`, by quality (RFC 9110, section 12.5.1), and then by the order of its types.

    Raises:
        Refused: 406, none of its types is possible.
    """
    asked = dict[str, float]()
    for kind, *parameters in (part.split(";") for part in re.sub(r"\s", "", accept.lower() or "*/*").split(",")):
        given = [re.fullmatch(r"q=([01](?:\.\d*)?)", parameter) for parameter in parameters]
        asked[kind] = next((float(quality[1]) for quality in given if quality), 1.0)

    def rank(form: str) -> tuple[float, int]:
        kind = FORMATS[form].media_type
        matching = next((one for one in (kind, f"{kind.partition('/')[0]}/*", "*/*") if one in asked), None)
        return (0.0, 0) if matching is None else (asked[matching], -[*asked].index(matching))

    if rank(best := max(BY_TYPE, key=rank))[0]:
        return best
    raise Refused(406, f"Accept: {accept[:100]}: not possible; use format= with one of {', '.join(FORMATS)}")
