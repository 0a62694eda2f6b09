"""Label Studio's ML backend protocol: tasks are labelled with brushes or polygons before people see them.

Source: api.py and utils.py of label-studio-ml-backend. `model_version` changes with the bundle and the settings, since
Label Studio does not ask again for tasks that have predictions of the present one.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AliasChoices, BaseModel, Field

from pyramidseg.annotations.contours import find_regions, one_ring
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError
from pyramidseg.formats.label_studio import label_studio_controls
from pyramidseg.formats.label_studio.label_studio_controls import BRUSHES, Control
from pyramidseg.formats.label_studio.label_studio_writer import brush_regions
from pyramidseg.predict.segmentation import OutputOptions, Segmentation
from pyramidseg.serve.label_studio_images import LabelStudioImages
from pyramidseg.serve.limits import Refused
from pyramidseg.serve.service import Service, json_body, parse_json

logger = logging.getLogger(__name__)

STATUS = {"status": "UP", "model_class": "PyramidSeg"}

ADDED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
REMOVED = ("ANNOTATION_DELETED", "ANNOTATIONS_DELETED")
START = "START_TRAINING"


class _Setup(BaseModel):
    config: str = Field(validation_alias=AliasChoices("schema", "config"))
    access_token: str | None = None


class _LabelTask(BaseModel):
    id: Any = None
    data: dict[str, Any] = {}


class _Prediction(BaseModel):
    tasks: list[_LabelTask]
    label_config: str


class _Identified(BaseModel):
    id: int | None = None


class LabelEvent(BaseModel):
    """What Label Studio sends to webhooks: `annotation` or `annotations`, by action."""

    action: str
    annotation: _Identified | list[_Identified] = []
    annotations: list[_Identified] = []
    project: _Identified = _Identified()

    def ids(self) -> set[int]:
        """Of the annotations."""
        one = self.annotation if isinstance(self.annotation, list) else [self.annotation]
        return {annotation.id for annotation in [*one, *self.annotations] if annotation.id is not None}


def add_routes(
    app: FastAPI, service: Service, images: LabelStudioImages, receive: Callable[[LabelEvent], None] | None = None
) -> None:
    """The routes, which serve the first model; `receive` gets the events on annotations and trainings."""
    first = next(iter(service.engines))
    working: dict[bytes, asyncio.Task[list[dict[str, Any]]]] = {}
    annotations: set[int] = set()
    own_key = images.key

    async def read(request: Request) -> bytes:
        with service.admission.admit() as held:
            return await service.read_body(request, held)

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse(STATUS)

    @app.post("/validate", openapi_extra=json_body("config"))
    @app.post("/setup", openapi_extra=json_body("schema"))
    async def setup(request: Request) -> Response:
        asked, model = parse_json(_Setup, await read(request)), service.engines[first].model
        controls = read_controls(asked.config, model.classes)
        images.key = own_key or asked.access_token or images.key
        used = {index for control in controls for index in control.labels}
        without_label = [name for index, name in enumerate(model.classes.names) if index not in used]
        without_class = [label for control in controls for label in control.unused]
        report = {"classes_without_a_label": without_label, "labels_without_a_class": without_class}
        for what in filter(report.get, report):
            names = ", ".join(report[what])
            logger.warning(f"Label Studio: {what.replace('_', ' ')}: {names} (predicted_values maps them)")
        return JSONResponse({"model_version": model.version, **report})

    async def labelled(task: _LabelTask, config: str) -> dict[str, Any]:
        model = service.engines[first].model
        try:
            with service.admission.admit(always=True) as held:
                engine = service.engine(first)
                controls = read_controls(config, engine.model.classes)  # a reload may have changed them
                content = await asyncio.to_thread(images.fetch, str(task.data.get(controls[0].key, "")))
                found = (await engine.predict(content, OutputOptions(confidence=True), held)).found
                regions = await service.encode(lambda: list(make_regions(found, controls)))
            assert found.confidence is not None
            return {"result": regions, "score": float(found.confidence.mean()), "model_version": engine.model.version}
        except Refused as error:
            logger.warning(f"Label Studio: task {task.id}: {error.message}")
        except Exception:
            logger.exception(f"Label Studio: task {task.id}: a defect")
        return {"result": [], "score": 0.0, "model_version": model.version}

    async def label_all(asked: _Prediction, key: bytes) -> list[dict[str, Any]]:
        try:
            return [await labelled(task, asked.label_config) for task in asked.tasks]
        finally:
            del working[key]

    @app.post("/predict", openapi_extra=json_body("tasks", "label_config"))
    async def predict(request: Request) -> Response:
        body = await read(request)
        key = hashlib.sha256(body).digest()
        if key not in working:  # Label Studio repeats a request that took longer than 100 s; it joins the first one
            asked = parse_json(_Prediction, body)
            read_controls(asked.label_config, service.engines[first].model.classes)
            working[key] = asyncio.create_task(label_all(asked, key))
        return JSONResponse({"results": await asyncio.shield(working[key])})

    @app.post("/webhook", status_code=201, responses={200: {}}, openapi_extra=json_body("action"))
    async def webhook(request: Request) -> Response:
        event = parse_json(LabelEvent, await read(request))
        if event.action not in (*ADDED, *REMOVED, START):
            return JSONResponse({"status": "Unknown event"})
        if receive is not None:
            receive(event)
        elif event.action == START:
            result = "training is not started by this server (pyramidseg serve --train-after)"
            return JSONResponse({"result": result, "status": "ok"}, 201)
        (annotations.update if event.action in ADDED else annotations.difference_update)(event.ids())
        service.metrics.annotations.set(len(annotations))
        return JSONResponse({"result": {"annotations": len(annotations)}, "status": "ok"}, 201)


def read_controls(config: str, classes: Classes) -> list[Control]:
    """`label_studio_controls.read_controls`, whose errors become `Refused` with status 400."""
    try:
        return label_studio_controls.read_controls(config, classes)
    except ConfigError as error:
        raise Refused(400, str(error)) from None


def make_regions(segmentation: Segmentation, controls: list[Control]) -> Iterator[dict[str, Any]]:
    """Label Studio's regions of the classes that have a label: a brush for each class, or a polygon for each region."""
    labels, confidence = segmentation.labels, segmentation.confidence
    assert confidence is not None
    height, width = labels.shape
    for control in controls:
        for index, label in control.labels.items():
            pixels = labels == index
            for brush in brush_regions(labels, {index: label}):
                place = {"from_name": control.from_name, "to_name": control.to_name, "type": control.kind}
                region = brush | place | {"score": float(confidence[pixels].mean())}
                if control.kind == BRUSHES:
                    yield region | {"id": f"{control.from_name}_{index}"}
                    continue
                for number, found in enumerate(find_regions(pixels.astype(np.uint8), skip=(0,))):
                    points = (one_ring(found.rings) * (100 / width, 100 / height)).tolist()
                    value = {"points": points, "closed": True, "polygonlabels": [label]}
                    yield region | {"id": f"{control.from_name}_{index}_{number}", "value": value}
