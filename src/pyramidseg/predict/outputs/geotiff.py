"""GeoTIFF of class ids."""

from pathlib import Path

from pyramidseg.base.files import write_bytes
from pyramidseg.images.georeference import encode_geotiff
from pyramidseg.predict.outputs.ownership import SIGNATURE
from pyramidseg.predict.segmentation import Image, Segmentation


def write_geotiff(path: Path, segmentation: Segmentation, image: Image) -> None:
    """Class ids as a GeoTIFF with the image's georeference and the classes' colours and names."""
    assert segmentation.georeference is not None, "this writer needs a segmentation with a georeference"
    names = {f"class_{index}": name for index, name in enumerate(segmentation.classes.names)}
    content = encode_geotiff(
        segmentation.labels,
        segmentation.georeference,
        palette=segmentation.classes.palette(),
        tags={"TIFFTAG_SOFTWARE": SIGNATURE, **names},
    )
    write_bytes(path, content)
