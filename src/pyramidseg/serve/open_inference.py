"""Open Inference Protocol v2 (KServe, Triton): tensors as JSON, or in binary after a JSON header.

Source: inference_rest.md of open-inference-protocol, and Triton's binary tensor data extension. The input `image` is a
tensor [B, C, H, W], or one encoded image as BYTES [1] (base64 in JSON).
"""

import base64
import binascii
import json
import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from pyramidseg.base.version import __version__
from pyramidseg.predict.input_images import ImageLike
from pyramidseg.predict.segmentation import OutputOptions, Segmentation
from pyramidseg.serve.client import DATATYPES, HEADER
from pyramidseg.serve.limits import Refused
from pyramidseg.serve.served_model import ServedModel
from pyramidseg.serve.service import Service, json_body, parse_json

DTYPES = {name: np.dtype(dtype) for dtype, name in DATATYPES.items()}
OUTPUTS = {"labels": "UINT8", "confidence": "FP32", "probabilities": "FP32"}

MAX_JSON_BYTES, MAX_JSON_VALUES = 2**23, 2**22
"""Parsing and writing JSON stops all other requests for a moment; more values have to be binary."""


class _Parameters(BaseModel, strict=True):
    binary_data_size: Annotated[int, Field(ge=0)] | None = None
    binary_data: bool | None = None
    binary_data_output: bool = False


class _Input(BaseModel, strict=True):
    name: Literal["image"]
    datatype: Literal["UINT8", "UINT16", "INT16", "FP32", "BYTES"]
    shape: Annotated[list[Annotated[int, Field(ge=1, lt=2**31)]], Field(min_length=1, max_length=8)]
    data: Any = None
    parameters: _Parameters = _Parameters()


class _Output(BaseModel, strict=True):
    name: Literal["labels", "confidence", "probabilities"]
    parameters: _Parameters = _Parameters()


class InferRequest(BaseModel, strict=True):
    """The JSON of a request."""

    id: str | None = None
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=1)]
    outputs: list[_Output] = [_Output(name="labels")]
    parameters: _Parameters = _Parameters()


def add_routes(app: FastAPI, service: Service) -> None:
    """The routes under /v2."""

    @app.get("/v2")
    async def server() -> Response:
        return JSONResponse({"name": "pyramidseg", "version": __version__, "extensions": ["binary_tensor_data"]})

    @app.get("/v2/health/{what}")
    async def health(what: Literal["live", "ready"]) -> Response:
        status = 200 if service.ready or what == "live" else 503
        return JSONResponse({"live": True, "ready": service.ready}, status)

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def metadata(name: str, version: str = "1") -> Response:
        model = service.engine(_model(name, version)).model
        shapes = {"labels": [-1] * 3, "confidence": [-1] * 3, "probabilities": [-1, len(model.classes), -1, -1]}
        outputs = [{"name": out, "datatype": kind, "shape": shapes[out]} for out, kind in OUTPUTS.items()]
        inputs = [{"name": "image", "datatype": "UINT8", "shape": [-1, model.channels, -1, -1]}]
        about = {"name": name, "versions": ["1"], "platform": "pyramidseg"}
        return JSONResponse(about | {"inputs": inputs, "outputs": outputs})

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def ready(name: str, version: str = "1") -> Response:
        is_ready = service.engine(_model(name, version)).ready
        return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    binary: dict[int | str, Any] = {200: {"content": {"application/octet-stream": {}}}}
    body = json_body("inputs")

    @app.post("/v2/models/{name}/infer", openapi_extra=body, responses=binary)
    @app.post("/v2/models/{name}/versions/{version}/infer", openapi_extra=body, responses=binary)
    async def infer(request: Request, name: str, version: str = "1") -> Response:
        with service.admission.admit() as held:
            engine = service.engine(_model(name, version))
            body = await service.read_body(request, held)
            asked, images = parse_request(body, request.headers.get(HEADER), most=int(service.limits.max_images))
            wanted = {output.name for output in asked.outputs}
            options = OutputOptions("confidence" in wanted, "probabilities" in wanted)

            async def work() -> tuple[bytes, int | None]:  # one image after the other: other clients come in between
                found = [(await engine.predict(image, options, held)).found for image in images]
                return await service.encode(encode_answer, asked, found, engine.model)

            content, header = await service.finish(request, work())
        if header is None:
            return Response(content, media_type="application/json")
        return Response(content, media_type="application/octet-stream", headers={HEADER: str(header)})


def _model(name: str, version: str) -> str:
    if version != "1":
        raise Refused(404, f"model {name[:80]} has no version {version[:40]}; its only version is 1")
    return name


def parse_request(body: bytes, header_length: str | None, *, most: int) -> tuple[InferRequest, list[ImageLike]]:
    """A request and its images, encoded or arrays (H, W, C).

    Args:
        header_length: of the JSON in a body with binary tensors.
        most: images in a tensor.

    Raises:
        Refused: with the numbers that disagree.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length[:20]) > length:
            raise Refused(400, f"{HEADER}: {header_length[:40]}, but the body has {length} bytes")
        length = int(header_length)
    if length > MAX_JSON_BYTES:
        raise Refused(413, f"{length} bytes of JSON, and {MAX_JSON_BYTES} are read; send the tensor in binary")
    asked = parse_json(InferRequest, body[:length])
    return asked, _images(asked.inputs[0], body[length:], most)


def _images(tensor: _Input, binary: bytes, most: int) -> list[ImageLike]:
    shape, count, size = tensor.shape, math.prod(tensor.shape), tensor.parameters.binary_data_size
    if (size or 0) != len(binary):
        raise Refused(400, f"image: binary_data_size is {size}, but {len(binary)} bytes follow the JSON ({HEADER})")
    if tensor.datatype == "BYTES":
        if count != 1:
            raise Refused(400, f"image: shape {shape} of BYTES: one encoded image is read, shape [1]")
        return [_encoded(tensor.data if size is None else binary)]
    if len(shape) != 4 or shape[0] > most:
        raise Refused(400, f"image: shape {shape}: [B, C, H, W] with B from 1 to {most} is needed")
    dtype = DTYPES[tensor.datatype]
    if size is None:
        array = _listed(tensor.data, dtype)
    elif size == count * dtype.itemsize:
        array = np.frombuffer(binary, dtype.newbyteorder("<"))
    else:
        needed = f"{' x '.join(map(str, shape))} values of {dtype.itemsize} bytes, {count * dtype.itemsize}"
        raise Refused(400, f"image: {size} bytes of data, but shape {shape} of {tensor.datatype} needs {needed}")
    if array.size != count:
        raise Refused(400, f"image: {array.size} values in data, but shape {shape} needs {count}")
    return list(np.moveaxis(array.reshape(shape), 1, -1))


def _listed(data: object, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        values = np.array(data)
    except (ValueError, OverflowError):
        values = np.array(None)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind != "f" else (-3e38, 3e38)
    if values.dtype.kind not in ("iuf" if dtype.kind == "f" else "iu") or not (
        low <= values.min(initial=high) and values.max(initial=low) <= high
    ):
        raise Refused(400, f"image: data has to be a list of numbers from {low} to {high}, flat or of the given shape")
    return values.astype(dtype)


def _encoded(data: object) -> bytes:
    """The one element of a BYTES tensor: after its length in binary, base64 in JSON."""
    if isinstance(data, bytes):
        length = int.from_bytes(data[:4], "little")
        if len(data) < 4 or length != len(data) - 4:
            raise Refused(400, f"image: an element of {length} bytes, but {max(0, len(data) - 4)} follow its length")
        return data[4:]
    text = data[0] if isinstance(data, list) and len(data) == 1 else None
    try:
        return base64.b64decode(text, validate=True)  # type: ignore[arg-type]
    except (TypeError, ValueError, binascii.Error):
        raise Refused(400, "image: data of BYTES has to be a list of one text in base64") from None


def encode_answer(asked: InferRequest, found: Sequence[Segmentation], model: ServedModel) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON if binary tensors follow."""
    described, tensors = [], []
    for output in asked.outputs:
        values = np.stack([getattr(segmentation, output.name) for segmentation in found])
        entry: dict[str, Any] = {"name": output.name, "datatype": OUTPUTS[output.name], "shape": list(values.shape)}
        if output.parameters.binary_data or (
            output.parameters.binary_data is None and asked.parameters.binary_data_output
        ):
            tensors.append(values.tobytes())
            entry["parameters"] = {"binary_data_size": values.nbytes}
        elif values.size > MAX_JSON_VALUES:
            raise Refused(413, f"{output.name}: {values.size} values are too many for JSON; ask for binary_data")
        else:
            entry["data"] = values.ravel().tolist()
        described.append(entry)
    answer = {"model_name": model.name, "model_version": "1", "parameters": {"bundle": model.version}}
    header = json.dumps(answer | {"outputs": described} | ({} if asked.id is None else {"id": asked.id})).encode()
    return b"".join((header, *tensors)), len(header) if tensors else None
