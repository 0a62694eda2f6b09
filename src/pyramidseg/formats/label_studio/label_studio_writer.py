"""Writers of Label Studio's JSON: a task for each image, with brushes or polygons, and the labelling config."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.brush_rle import encode_brush
from pyramidseg.annotations.contours import one_ring
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import first_few
from pyramidseg.formats.label_regions import Outlines, corner_words, lost_ignored, not_outlined, outlined_classes
from pyramidseg.formats.label_studio.label_studio_controls import BRUSHES, POLYGONS, Control, read_controls
from pyramidseg.formats.label_studio.label_studio_dataset import LABEL_CONFIG
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels, joined
from pyramidseg.formats.polygon_labels import drawn_name

FROM_NAME, POLYGON_NAME, TO_NAME, IMAGE_KEY = "label", "polygon", "image", "image"
"""Names in the labelling config that is written."""

Controls = Sequence[Control]
"""The tags of a project, with labels for all outlined classes; none for the names above."""

Placed = dict[int, tuple[Control, str]]
"""A tag and one of its labels, by class id."""


def brush_regions(labels_HW: NDArray[np.uint8], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """A region for each class that occurs.

    Args:
        names: of the labels, by class id; other classes have no region.
    """
    return [
        _brush(pixels, Control(BRUSHES, FROM_NAME, TO_NAME, IMAGE_KEY, names, []), name) | {"id": f"class{value}"}
        for value, name in names.items()
        if (pixels := labels_HW == value).any()
    ]


def _brush(pixels_HW: NDArray[np.bool_], control: Control, label: str) -> dict[str, Any]:
    value = {"format": "rle", "rle": encode_brush(pixels_HW), BRUSHES: [label]}
    return _region(control, value, *pixels_HW.shape)


def _region(control: Control, value: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    return {"from_name": control.from_name, "to_name": control.to_name, "type": control.kind, **size, "value": value}


def _placed(kind: str, controls: Controls, classes: Classes) -> Placed:
    """Of each class that is outlined, the first tag of a kind that has a label for it, and this label."""
    outlined = outlined_classes(classes)
    if not controls:
        name = FROM_NAME if kind == BRUSHES else POLYGON_NAME
        labels = {index: classes.names[index] for index in outlined}
        controls = [Control(kind, name, TO_NAME, IMAGE_KEY, labels, [])]
    placed: Placed = {}
    for control in controls:
        for index in outlined if control.kind == kind else ():
            if index in control.labels:
                placed.setdefault(index, (control, control.labels[index]))
    return placed


def _encode(image: LabelledImage, classes: Classes, *, controls: Controls = ()) -> WrittenLabels:
    regions = [
        {"id": f"class{index}", **_brush(pixels, control, label), **image.score(pixels)}
        for index, (control, label) in _placed(BRUSHES, controls, classes).items()
        if (pixels := image.labels == index).any()
    ]
    return _task(image, regions, lost_ignored(image.labels), controls)


def _encode_polygons(image: LabelledImage, classes: Classes, *, controls: Controls = ()) -> WrittenLabels:
    """A polygon for each connected region; a brush for one with holes, which Label Studio's polygons cannot have.

    In a project that has no brush for the class, holes are joined to the outer ring by a cut of no width.
    """
    height, width = image.labels.shape
    outlines = Outlines.of(image, skip=not_outlined(classes))
    words, offsets = corner_words(width, height, 100, "[{!r}, ", "{!r}], "), np.array([0, width + 1])
    polygons, brushes = (_placed(kind, controls, classes) for kind in (POLYGONS, BRUSHES))
    regions: list[dict[str, Any]] = []
    points: list[str] = []
    for number, found in enumerate(outlines.regions):
        if len(found.rings) > 1 and found.value in brushes:
            own = _brush(outlines.numbers == found.number, *brushes[found.value])
        else:
            control, label = polygons[found.value]
            own = _region(control, {"points": [], POLYGONS: [label], "closed": True}, height, width)
            points.append("".join(words[(one_ring(found.rings) + offsets).ravel()].tolist())[:-2])
        scores = {} if image.confidence is None else image.score(*outlines.pixels(found))
        regions.append(own | {"id": f"region{number}"} | scores)
    written = _task(image, regions, outlines.lost(), controls)
    # `json` would need most of the time for the points. In a string, the second quote here would have a backslash.
    first, *others = written.part.split('"points": []')
    text = first + "".join(f'"points": [{own}]{more}' for own, more in zip(points, others, strict=True))
    return replace(written, part=text)


def _task(
    image: LabelledImage, regions: list[dict[str, Any]], lost: dict[str, int], controls: Controls
) -> WrittenLabels:
    path = quote(f"{image.split}/{image.name}{image.image.suffix}")
    key = controls[0].key if controls else IMAGE_KEY
    task: dict[str, Any] = {"data": {key: f"/data/local-files/?d=images/{path}"}}
    if image.model:
        task["predictions"] = [
            {"model_version": image.model, "result": regions, **image.score(np.ones_like(image.labels, bool))}
        ]
    else:
        task["annotations"] = [{"result": regions}]
    return WrittenLabels(part=json.dumps(task), lost=lost)


def _assemble(parts: Mapping[str, Parts], classes: Classes, *, polygons: bool = False, config: str = "") -> SharedFiles:
    for split, some in parts.items():
        yield f"{split}.json", chain([b"[\n"], joined(task.encode() for _, task in some), [b"\n]\n"])
    yield LABEL_CONFIG, iter([(config or label_config(classes, polygons=polygons)).encode()])


def label_config(classes: Classes, *, polygons: bool = False) -> str:
    """The labelling config of a project for these classes."""
    labels = [
        f'    <Label value={quoteattr(classes.names[index])} background="#{bytes(classes.colors[index]).hex()}"/>'
        for index in outlined_classes(classes)
    ]
    image = f'<Image name="{TO_NAME}" value="${IMAGE_KEY}" zoom="true"/>'
    controls = {"BrushLabels": FROM_NAME} | ({"PolygonLabels": POLYGON_NAME} if polygons else {})
    lines = [
        line
        for tag, name in controls.items()
        for line in (f'  <{tag} name="{name}" toName="{TO_NAME}">', *labels, f"  </{tag}>")
    ]
    return "\n".join(("<View>", f"  {image}", *lines, "</View>", ""))


def _for_project(config: str, classes: Classes, *, polygons: bool = False) -> LabelWriter:
    """The writer for a project with this labelling configuration.

    Raises:
        ConfigError: the configuration has no label for a class, or cannot be read.
    """
    controls = read_controls(config, classes, exclusive=False)
    kind, tag = (POLYGONS, "PolygonLabels") if polygons else (BRUSHES, "BrushLabels")
    placed = _placed(kind, controls, classes)
    if missing := [classes.names[index] for index in outlined_classes(classes) if index not in placed]:
        own = [control for control in controls if control.kind == kind]
        known = first_few(dict.fromkeys(label for one in own for label in (*one.labels.values(), *one.unused)))
        raise ConfigError(
            f"the labelling configuration has no label in {tag} for {first_few(missing)} (its labels: {known}); add "
            f"<Label value={quoteattr(missing[0])}/>, or list the class in predicted_values of a label"
        )
    encode = partial(_encode_polygons if polygons else _encode, controls=controls)
    assemble = partial(_assemble, polygons=polygons, config=config)
    return replace(LABEL_STUDIO_POLYGONS if polygons else LABEL_STUDIO, encode=encode, assemble=assemble)


LABEL_STUDIO = LabelWriter("images/{split}/{name}", _encode, _assemble, read_as=drawn_name, for_project=_for_project)
LABEL_STUDIO_POLYGONS = replace(
    LABEL_STUDIO,
    encode=_encode_polygons,
    assemble=partial(_assemble, polygons=True),
    has_outlines=True,
    for_project=partial(_for_project, polygons=True),
)
