"""The brushes and polygons of a Label Studio project: which of its tags and labels a class gets."""

from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError

BRUSHES, POLYGONS = "brushlabels", "polygonlabels"


class Control(NamedTuple):
    """A tag that labels regions.

    Attributes:
        kind: `BRUSHES` or `POLYGONS`.
        key: of the image among the data of a task.
        labels: the label of each class, by class id, as results carry it: its alias, if it has one.
        unused: labels without a class.
    """

    kind: str
    from_name: str
    to_name: str
    key: str
    labels: Mapping[int, str]
    unused: list[str]


def read_controls(config: str, classes: Classes, *, exclusive: bool = True) -> list[Control]:
    """The brushes and polygons of the first image that has some.

    A class belongs to the label that lists it in `predicted_values`, else to that of its name (value or alias), else of
    its name in other case.

    Args:
        config: the project's labelling configuration.
        exclusive: a class has a label only in the first control that has one for it.

    Raises:
        ConfigError: the configuration has no such tags for an image, or cannot be read.
    """
    if "<!DOCTYPE" in config.upper() or "<!ENTITY" in config.upper():
        raise ConfigError("the labelling configuration has a DOCTYPE, which is not read")
    try:
        root = ElementTree.fromstring(config)  # noqa: S314 - without entities
    except ElementTree.ParseError as error:
        raise ConfigError(f"the labelling configuration is not valid XML: {error}") from None
    images = {tag.get("name"): tag.get("value", "").lstrip("$") for tag in root.iter("Image")}
    controls, taken = [], set[int]()
    for tag in root.iter():
        kind, to_name = tag.tag.lower(), tag.get("toName", "")
        if kind in (BRUSHES, POLYGONS) and to_name in images:
            listed = {label.get("alias") or label.get("value") or "": label for label in tag.iter("Label")}
            found = {index: label for index, name in enumerate(classes.names) if (label := _label(name, listed))}
            unused = [label for label in listed if label not in found.values()]
            own = {index: label for index, label in found.items() if not (exclusive and index in taken)}
            controls.append(Control(kind, tag.get("name", ""), to_name, images[to_name], own, unused))
            taken |= set(own)
    if not controls:
        raise ConfigError("the labelling configuration needs BrushLabels or PolygonLabels for an Image")
    return [control for control in controls if control.to_name == controls[0].to_name]


def _label(name: str, listed: Mapping[str, ElementTree.Element]) -> str | None:
    texts = {label: tag.get("predicted_values", "") for label, tag in listed.items()}
    predicted = [label for label, names in texts.items() if name in (names, *map(str.strip, names.split(",")))]
    known = {label: (tag.get("value", ""), label) for label, tag in listed.items()}
    equal = [label for label, names in known.items() if name in names]
    alike = [label for label, names in known.items() if name.casefold() in map(str.casefold, names)]
    return next(iter([*predicted, *equal, *alike]), None)
