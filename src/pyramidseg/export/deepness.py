"""ONNX files for Deepness, the plugin of QGIS: one size, probabilities, and the metadata that set up its dialog.

Source: src/deepness/processing/models/model_base.py of the plugin. It divides images by 255, takes the argmax of the
probabilities above a threshold and drops small regions; here the threshold is 0 and no region is dropped, so that every
pixel keeps its class.
"""

import json
from pathlib import Path

from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.export.export_model import DEFAULT_SPLIT, Export, export_model
from pyramidseg.formats.open_dataset import DEFAULT_DATA
from pyramidseg.model.bundle import KIND, ground_resolution_of, read_bundle
from pyramidseg.model.tensor_files import read_metadata
from pyramidseg.predict.tile_planner import default_overlap, receptive_field_px

TILE_PX = 512
LARGEST_OVERLAP = 50
"""In percent; a larger one makes the plugin compute every pixel more than four times."""


def export_for_deepness(
    model: str | Path,
    *,
    tile_px: int = TILE_PX,
    resolution_cm: float | None = None,
    out: str | Path | None = None,
    check: str | Path | None = None,
    split: str = DEFAULT_SPLIT,
    data: DataConfig = DEFAULT_DATA,
    as_written: bool = False,
    opset: int | None = None,
) -> Export:
    """Write `<bundle>-<tile>x<tile>-probabilities.onnx` and compare it with the bundle.

    Args:
        tile_px: side of the square windows that the plugin cuts.
        resolution_cm: centimetres per pixel that the model was trained on; by default the bundle's, or, if it has
            none, chosen in the plugin's dialog.
        out, check, split, data, as_written, opset: as in `export_model`.

    Raises:
        ConfigError: the model was not trained on 8-bit images, or the resolution is not above 0.
        WeightsError: as `export_model`, whose other errors are raised, too.
    """
    bundle = read_bundle(model)
    if bundle.value_range is not None and bundle.value_range.dtype != "uint8":
        raise ConfigError(
            f"{model}: was trained on {bundle.value_range.dtype} images; Deepness divides all images by 255, so it can "
            "only run models of 8-bit images"
        )
    if resolution_cm is not None and not 0 < resolution_cm < float("inf"):
        raise ConfigError(f"`resolution_cm={resolution_cm:g}`: must be above 0 centimetres per pixel")
    if resolution_cm is None and (metres := ground_resolution_of(read_metadata(bundle.path, kind=KIND))) is not None:
        resolution_cm = 100 * metres
    overlap_px = default_overlap(tile_px, receptive_field_px(bundle.config))
    texts = {
        "model_type": "Segmentor",
        "class_names": dict(enumerate(bundle.classes.names)),
        "tile_size": tile_px,  # what the plugin reads; its documentation writes the next one
        "tiles_size": tile_px,
        "tiles_overlap": min(-(-100 * overlap_px // tile_px), LARGEST_OVERLAP),
        "seg_thresh": 0.0,
        "seg_small_segment": 0,
        **({} if resolution_cm is None else {"resolution": resolution_cm}),
    }
    return export_model(
        model,
        format="onnx",
        input_dtype="float32",
        size=(tile_px, tile_px),
        output="probabilities",
        other_texts={key: json.dumps(value) for key, value in texts.items()},
        out=out,
        check=check,
        split=split,
        data=data,
        as_written=as_written,
        opset=opset,
    )
