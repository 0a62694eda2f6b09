"""Areas that somebody drew elsewhere: a GeoJSON file of one image, none of whose areas meets it."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from pyramidseg.data.inspection.turns import named
from pyramidseg.data.masks.class_masks import values_of
from pyramidseg.data.masks.geojson import GeoJsonValues
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.errors import DataError


def areas_elsewhere(records: Collection[Record], masks: MaskSource) -> Iterator[str]:
    """A remark on images that are background because their own file's areas lie elsewhere on the map.

    A file that several images share is expected to miss some of them.
    """
    values = values_of(masks)
    if not isinstance(values, GeoJsonValues):
        return
    shared = Counter(record.mask for record in records)
    missed: list[Path] = []
    for record in records:
        with suppress(DataError):  # told of the record itself
            if shared[record.mask] == 1 and values.misses(record):
                missed.append(record.mask or record.image)
    if missed:
        yield (
            f"the areas of {len(missed)} GeoJSON files lie outside their image, which is background then; look whether "
            f"image and file belong together, and whether data.vector_crs is right: {named(missed)}"
        )
