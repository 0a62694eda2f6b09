"""Synthetic images that are predicted in windows, and a backend whose windows are exact."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray

from made_backends import Brightness
from made_geo import TRANSFORM, UTM, write_image
from pyramidseg.backends import LogitGeometry
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.summary_file import PredictionSummary

TILE = 128


class Neighbourhood:
    """Logits at stride 4 that depend on 20 pixels around, in float64."""

    name = "neighbourhood"
    in_channels = 3
    classes = Brightness.classes
    geometry = LogitGeometry(stride=4, align_corners=False)
    value_range = None

    @torch.inference_mode()
    def coarse_logits(self, images: torch.Tensor) -> torch.Tensor:
        height, width = (-(-side // 4) * 4 for side in images.shape[-2:])
        padded = torch.nn.functional.pad(
            images.double() - 100, (20, 20 + width - images.shape[-1], 20, 20 + height - images.shape[-2])
        )
        means = torch.nn.functional.avg_pool2d(padded, 44, 4)
        return torch.stack((means[:, 0], means[:, 1], means[:, 2] + 1), dim=1)


def smooth(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 16 + 2, width // 16 + 2, channels))
    return np.kron(coarse, np.ones((16, 16, 1)))[:height, :width].astype(np.uint8)


def predictor(**options: Any) -> Predictor:
    own = Predictor(Neighbourhood(), **{"tile_px": TILE, "overlap_px": 64, **options})
    own.tile_planner.__dict__["_receptive_field_px"] = 24
    return own


class Counting(Neighbourhood):
    """Notes the number of its windows; ends the process, or is interrupted, at a given one."""

    def __init__(self, *, stop_at: int = -1, kill: bool = False) -> None:
        self.count, self.stop_at, self.kill = -1, stop_at, kill  # the first call is a probe

    def coarse_logits(self, images: torch.Tensor) -> torch.Tensor:
        self.count += 1
        if self.count == self.stop_at:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        return super().coarse_logits(images)


def counting(**options: Any) -> Predictor:
    own = predictor()
    own.backend = Counting(**options)
    return own


def killed_at(window: int, predict: Callable[[Predictor], object]) -> None:
    """Predict in a process that is killed in a window of this number."""
    process = os.fork()
    if process == 0:
        try:
            predict(counting(stop_at=window, kill=True))
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1])


def whole_labels(path: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    with monkeypatch.context() as patch:
        patch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 10**9)
        return predictor(tile_px="whole", overlap_px=None).predict(path).labels


def write_mosaic(folder: Path, values: NDArray[np.uint8]) -> Path:
    """(200, 400, 3) as a VRT of two files that overlap, `part0.tif` and `part1.tif`."""
    parts = ""
    for number, left in enumerate((0, 160)):
        write_image(folder / f"part{number}.tif", values[:, left : left + 240], photometric="RGB")
        parts += (
            f'<SimpleSource><SourceFilename relativeToVRT="1">part{number}.tif</SourceFilename><SourceBand>BAND'
            '</SourceBand><SrcRect xOff="0" yOff="0" xSize="240" ySize="200"/>'
            f'<DstRect xOff="{left}" yOff="0" xSize="240" ySize="200"/></SimpleSource>'
        )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{name}</ColorInterp>'
        + parts.replace("BAND", str(band))
        + "</VRTRasterBand>"
        for band, name in enumerate(("Red", "Green", "Blue"), 1)
    )
    a, b, c, d, e, f = TRANSFORM
    (folder / "a.vrt").write_text(
        f'<VRTDataset rasterXSize="400" rasterYSize="200"><SRS>{UTM}</SRS>'
        f"<GeoTransform>{c}, {a}, {b}, {f}, {d}, {e}</GeoTransform>{bands}</VRTDataset>"
    )
    return folder / "a.vrt"


def mask_of(out: Path, name: str = "a_mask.tif") -> NDArray[np.uint8]:
    with rasterio.open(out / name) as file:
        return np.asarray(file.read(1))


def predict(path: Path, out: Path, **options: Any) -> PredictionSummary:
    return predict_files(predictor(), [path], out, **options)
