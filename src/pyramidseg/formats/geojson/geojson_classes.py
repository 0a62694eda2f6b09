"""Classes and coordinates of GeoJSON polygons, by the settings `class_property` and `vector_crs`."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import ConfigError, DataError, nearest
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.formats.dataset_format import ParsedDataset, SourceLabel
from pyramidseg.formats.dataset_statements import Statements
from pyramidseg.formats.dataset_yaml import ClassEntry
from pyramidseg.formats.geojson.geojson_masks import OF_IMAGE, GeoJsonMasks, Layer, read_geojson
from pyramidseg.formats.polygon_labels import BACKGROUND, BACKGROUND_NAMES, DrawnLabels
from pyramidseg.formats.region_masks import ONE_CLASS

NAMELESS = "none"
"""The label of polygons that lack the property which names classes. They are ignored unless it is made a class."""

_SETTINGS = {
    "class_property": "GeoJSON and VIA",
    "vector_crs": "GeoJSON",
    "annotator": "Label Studio",
    "run_lengths": "tables of run lengths",
    "mask_column": "Hugging Face datasets",
    "mask_name": "images and masks in folders",
}


def apply_label_config(
    listing: ParsedDataset, stated: Statements, *, fallback_classes: Classes | None, taken: Collection[str] = ()
) -> ParsedDataset:
    """Divide polygons into classes by `class_property`, and place them by `vector_crs`, if these are set.

    Without the property, all polygons are of one class; if two plain class names are given, of the one that is not the
    background.

    Args:
        taken: settings that the dataset's format has used.

    Raises:
        ConfigError: no polygon has the property, or the masks are not GeoJSON and a setting is left over.
    """
    values, config = listing.values, stated.config
    if not isinstance(values, GeoJsonMasks):
        for name, what in _SETTINGS.items():
            if name not in taken and (value := getattr(config, name)) is not None:
                raise ConfigError(
                    f"{stated.source}: {name}={value}: this setting is for {what}, which these masks are not; remove it"
                )
        return listing
    if config.class_property is None:
        names = _two_names(stated.classes, fallback_classes)
        labels = tuple(SourceLabel(name, value) for value, name in enumerate(names))
        note = (
            f"all polygons are {names[1]!r}; data.class_property=... names the property that divides them into classes"
        )
        return replace(
            listing,
            labels=labels,
            values=replace(values, names=names, crs=config.vector_crs),
            notes=(*listing.notes, note, _crs_note(config)),
        )
    found, nameless = _count_names(listing, config.class_property, source=str(stated.source))
    drawn = DrawnLabels.of([*sorted(found), *([NAMELESS] if nameless and NAMELESS not in found else [])])
    by_name = {**drawn.values, **({"": drawn.values[NAMELESS]} if nameless else {})}
    counts = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    notes = [f"polygons are divided into classes by their property {config.class_property!r}: {counts}"]
    if nameless:
        notes.append(
            f"{nameless} polygons do not have it: they are labelled {NAMELESS!r} and ignored unless it is made a class"
        )
    return replace(
        listing,
        labels=tuple(replace(label, ignored=bool(nameless) and label.name == NAMELESS) for label in drawn.labels),
        values=GeoJsonMasks(drawn.names, by_name, config.class_property, config.vector_crs),
        notes=(*listing.notes, *notes, _crs_note(config)),
    )


def _two_names(classes: Sequence[ClassEntry] | None, fallback_classes: Classes | None) -> tuple[str, str]:
    """The names of the background and of the polygons."""
    plain = classes is not None and not any(entry.value is not None or entry.merged for entry in classes)
    given = [entry.name for entry in classes or ()] if plain else []
    names = given or list(fallback_classes.names if fallback_classes is not None and classes is None else ())
    if len(names) != 2 or ONE_CLASS in names:
        return BACKGROUND, ONE_CLASS
    first, second = names
    return (second, first) if second.lower() in BACKGROUND_NAMES else (first, second)


def _count_names(listing: ParsedDataset, class_property: str, *, source: str) -> tuple[Counter[str], int]:
    """Number of polygons with each value of a property, and number of polygons without it.

    Raises:
        ConfigError: all files can be read, but none has it.
    """
    files = list(dict.fromkeys(record.mask for some in listing.splits.values() for record in some if record.mask))
    found: Counter[str] = Counter()
    nameless, unread = 0, 0
    properties: set[str] = set()

    def read(file: Path) -> Layer | None:
        try:
            return read_geojson(file, class_property)
        except DataError:
            return None  # reported by the check of all files

    for layer in track(map_in_threads(read, files), total=len(files), task="reading the properties of polygons"):
        if layer is None:
            unread += 1
            continue
        names = [feature.name for feature in layer.features]
        nameless += names.count(None)
        found.update(name for name in names if name is not None)
        properties |= layer.properties
    if not found and not unread:
        known = nearest(class_property, properties)
        raise ConfigError(f"{source}: class_property={class_property}: no polygon has this property; {known}")
    return found, nameless


def _crs_note(config: LabelConfig) -> str:
    if config.vector_crs == OF_IMAGE:
        return "their coordinates are in the coordinate system of each image (data.vector_crs)"
    if config.vector_crs is not None:
        return f"their coordinates are in {config.vector_crs} (data.vector_crs)"
    return "their coordinates are in the system that each file names, or longitude and latitude on WGS 84 (RFC 7946)"
