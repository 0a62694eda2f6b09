"""Label maps of any size as cloud-optimized GeoTIFF or Zarr, made from parts that were written one after the other."""

import errno
import importlib
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.errors import OutputError, import_extra
from pyramidseg.base.files import write_atomically
from pyramidseg.images.file_checks import import_rasterio
from pyramidseg.images.raster_scene import CACHE_BYTES
from pyramidseg.images.scene import NODATA, Scene, ScenePlace


class LabelPart(NamedTuple):
    """A GeoTIFF file (`encode_geotiff`) with the labels of some rows and columns."""

    path: Path
    rows: slice
    columns: slice


LabelParts = Sequence[LabelPart]
"""Parts that cover the map without overlap."""

_CHUNK_PX = 1024

_LARGEST_TIFF = 2**32 - 2**24
"""In bytes."""


def write_label_raster(
    path: Path, parts: LabelParts, scene: Scene, *, palette: NDArray[np.uint8], tags: Mapping[str, str]
) -> None:
    """Write a tiled, deflate-compressed COG with overviews (nearest), colour table (256, 3), nodata and metadata.

    Labels of a scene that was resampled are brought to its own grid (nearest).

    Raises:
        OutputError: the disk is full, or the file cannot be written for another reason.
    """
    rasterio = import_rasterio("writing GeoTIFF")
    own_height, width = scene.header[:2]
    place, (height, full_width) = scene.full or (scene.place, (own_height, width))
    big = height * full_width * 4 / 3 * 1.01 > _LARGEST_TIFF  # with overviews, not compressed at all
    options = {"COMPRESS": "DEFLATE", "BLOCKSIZE": 512, "OVERVIEW_RESAMPLING": "NEAREST", "BIGTIFF": ("NO", "YES")[big]}
    head = _place_xml(place)
    head += f"<Metadata>{''.join(f'<MDI key={quoteattr(k)}>{escape(v)}</MDI>' for k, v in tags.items())}</Metadata>"
    colors = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="255"/>' for r, g, b in palette.tolist())
    mosaic = _mosaic_xml(
        parts, (height, full_width), scale=(height / own_height, full_width / width), head=head, colors=colors
    )

    def write(part: Path) -> None:
        source = part.with_name("parts.vrt")
        source.write_text(mosaic)
        try:
            with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
                importlib.import_module("rasterio.shutil").copy(source, part, driver="COG", **options)
        except Exception as error:  # GDAL's own errors have no common public class
            reason = " ".join(str(error).split())
            if shutil.disk_usage(part.parent).free < 2**20:
                raise OSError(errno.ENOSPC, reason) from error
            raise OutputError(f"{path}: cannot be written: {reason}; free space, or choose another `out`") from error

    write_atomically(path, write)


def write_label_zarr(path: Path, parts: LabelParts, size: tuple[int, int], attributes: Mapping[str, Any]) -> None:
    """Write labels as a Zarr array (version 3) in a ZIP file, each chunk once; equal labels give equal bytes."""
    zarr = import_extra("zarr", extra="zarr", purpose="writing Zarr")
    rasterio, (height, width) = import_rasterio("reading labels"), size

    def write(part: Path) -> None:
        options: dict[str, Any] = {"dtype": "uint8", "fill_value": NODATA, "dimension_names": ("y", "x")}
        options |= {"shape": (height, width), "chunks": (_CHUNK_PX, _CHUNK_PX), "attributes": dict(attributes)}
        array = zarr.create_array(store := part.with_name("labels.zarr"), **options)
        source = part.with_name("parts.vrt")
        source.write_text(_mosaic_xml(parts, size))
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), rasterio.open(source) as mosaic:
            for top, left in product(range(0, height, _CHUNK_PX), range(0, width, _CHUNK_PX)):
                rows, columns = slice(top, min(top + _CHUNK_PX, height)), slice(left, min(left + _CHUNK_PX, width))
                window = rasterio.windows.Window.from_slices(rows, columns)
                array[rows, columns] = mosaic.read(1, window=window)
        with zipfile.ZipFile(part, "w") as archive:
            archive.comment = b"pyramidseg"
            for file in sorted(file for file in store.rglob("*") if file.is_file()):
                archive.writestr(zipfile.ZipInfo(file.relative_to(store).as_posix()), file.read_bytes())

    write_atomically(path, write)


def _mosaic_xml(
    parts: LabelParts,
    size: tuple[int, int],
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    head: str = "",
    colors: str = "",
) -> str:
    """A VRT file of this height and width that GDAL reads the parts through, `scale` times as high and wide."""
    sources = ""
    for path, rows, columns in parts:
        width, height = columns.stop - columns.start, rows.stop - rows.start
        left, top = columns.start * scale[1], rows.start * scale[0]
        name = f"<SourceFilename>{escape(str(path.absolute()))}</SourceFilename><SourceBand>1</SourceBand>"
        own = f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
        place = f'<DstRect xOff="{left!r}" yOff="{top!r}" xSize="{width * scale[1]!r}" ySize="{height * scale[0]!r}"/>'
        sources += f"<SimpleSource>{name}{own}{place}</SimpleSource>"
    band = f'<VRTRasterBand dataType="Byte" band="1"><NoDataValue>{NODATA}</NoDataValue>'
    band += f"<ColorTable>{colors}</ColorTable>{sources}</VRTRasterBand>"
    return f'<VRTDataset rasterXSize="{size[1]}" rasterYSize="{size[0]}">{head}{band}</VRTDataset>'


def _place_xml(place: ScenePlace) -> str:
    """The place on a map in GDAL's VRT format."""
    if place.points:
        names = ("Pixel", "Line", "X", "Y", "Z")
        rows = (" ".join(f'{name}="{value!r}"' for name, value in zip(names, p, strict=True)) for p in place.points)
        points = "".join(f'<GCP Id="{number}" {row}/>' for number, row in enumerate(rows))
        return f"<GCPList Projection={quoteattr(place.crs)}>{points}</GCPList>"
    xml = f"<SRS>{escape(place.crs)}</SRS>" if place.crs else ""
    if place.transform is not None:
        a, b, c, d, e, f = place.transform
        xml += f"<GeoTransform>{c!r}, {a!r}, {b!r}, {f!r}, {d!r}, {e!r}</GeoTransform>"
    return xml
