"""Whether a mask that says where it lies on a map lies on its image there."""

import numpy as np

from pyramidseg.data.alignment import Size
from pyramidseg.data.defect_kinds import DefectError, Kind
from pyramidseg.data.georeference import Georeference, read_georeference, reprojected
from pyramidseg.data.image_files import is_image_name
from pyramidseg.data.records import Record
from pyramidseg.data.tiff import read_tiff_header
from pyramidseg.errors import DataError, MissingExtra

TOLERANCE = 0.5
"""Pixels of the image that a mask may be off: conventions on what a pixel's place is differ by as much."""


def check_same_grid(record: Record) -> None:
    """Refuse a mask whose georeference is not that of its image. Files that say none, or the same, cost no more.

    Raises:
        DataError: names both places.
    """
    if record.mask is None or not is_image_name(record.mask.name):
        return
    mask = read_tiff_header(record.mask)
    if mask is None or not mask.georeferenced:
        return
    image = read_tiff_header(record.image)
    if image is None or not image.georeferenced or max(image.orientation, mask.orientation) > 1:
        return
    sizes = (image.height, image.width), (mask.height, mask.width)
    if image.place == mask.place and sizes[0] == sizes[1]:
        return
    try:
        places = read_georeference(record.image), read_georeference(record.mask)
    except MissingExtra:  # whatever else needs to know where an image lies says so
        return
    if places[0] is None or places[1] is None or not places[0].crs or not places[1].crs:
        return
    off_px = _off_px(places[0], places[1], image=sizes[0], mask=sizes[1])
    if off_px is not None and off_px > TOLERANCE:
        raise DefectError(
            Kind.OFF_GRID,
            record.mask,
            f"lies elsewhere on the map than its image {record.image}, by {off_px:.1f} of its pixels: the mask is at "
            f"{_in_words(places[1])} and the image at {_in_words(places[0])}; make the mask anew on the image's grid, "
            "or, where its georeference is wrong, take that out (save it as PNG)",
        )


def _off_px(image_place: Georeference, mask_place: Georeference, *, image: Size, mask: Size) -> float | None:
    """How far a corner of the mask is from the image's, in pixels of the image; None where no way leads there."""
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.float64)
    on_map = mask_place.to_map(corners * mask[::-1])
    try:
        on_map = reprojected(on_map, source=mask_place.crs, target=image_place.crs)
    except DataError:
        return None
    return float(np.abs(image_place.to_pixels(on_map) - corners * image[::-1]).max())


def _in_words(place: Georeference) -> str:
    x, y = place.to_map(np.zeros((1, 2)))[0].tolist()
    name = place.crs.partition('"')[2].partition('"')[0]
    return f"({x:.10g}, {y:.10g}) in {name}"
