"""An image whose logits are not finite has no labels: it is an entry with its error, and the others are predicted."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from made_backends import Brightness
from pyramidseg.backends import TorchBackend
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset, Record
from pyramidseg.evaluation.scoring import score
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import predict_labels
from pyramidseg.predict.tile_planner import TilePlanner

HUGE = 1e30


class Overflowing(Brightness):
    """Its logits for values above 1e20 are not finite."""

    def __init__(self, value: float = math.nan) -> None:
        super().__init__()
        self.value = value

    def coarse_logits(self, images):
        logits = super().coarse_logits(images)
        return logits.where(images[:, :1].float() < 1e20, self.value)


def image(value, side=8):
    return np.full((side, side, 3), value, np.float32)


def spoilt(side=8):
    """One pixel of 1e30."""
    pixels = image(1, side)
    pixels[side // 2, side // 3] = HUGE
    return pixels


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", [{}, {"confidence": True}, {"probabilities": True}])
def test_one_of_a_batch_fails_and_the_others_have_their_labels(value, options):
    results = list(Predictor(Overflowing(value)).predict_results([image(0), spoilt(), image(1)], **options))
    assert [result.segmentation is None for result in results] == [False, True, False]
    assert (results[0].segmentation.labels == 0).all() and (results[2].segmentation.labels == 1).all()
    assert "not finite" in str(results[1].error) and "1 to 1e+30" in str(results[1].error)


@pytest.mark.parametrize("settings", [{"tile_px": 64}, {"tta": True}, {"tile_px": 64, "tta": True}])
def test_so_it_is_in_tiles_and_with_augmentation(settings):
    results = list(Predictor(Overflowing(), **settings).predict_results([image(1, 130), spoilt(130), image(0, 130)]))
    assert [result.error is None for result in results] == [True, False, True]
    assert (results[0].segmentation.labels == 1).all() and (results[2].segmentation.labels == 0).all()


def test_predict_raises_it():
    with pytest.raises(DataError, match="not finite"):
        Predictor(Overflowing()).predict(spoilt())


def test_a_file_becomes_an_entry_with_its_error(tmp_path):
    for name, pixels in {"a": image(1), "b": spoilt(), "c": image(0)}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb")
    summary = predict_files(Predictor(Overflowing()), [tmp_path], tmp_path / "out")
    assert [Path(entry["image"]).name for entry in summary.failed] == ["b.tif"]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert entries[0]["classes"] == {"bright": 1.0} and entries[2]["classes"] == {"dark": 1.0}
    assert "b.tif: the model's logits" in entries[1]["error"]
    assert not (tmp_path / "out" / "b.png").exists()


@pytest.mark.parametrize("tile_px", ["whole", 64])
def test_evaluation_is_refused_with_the_name_of_the_image(tmp_path, tile_px):
    path = tmp_path / "spoilt.tif"
    tifffile.imwrite(path, spoilt(130), photometric="rgb")

    class Labels:
        def read(self, record):
            return np.full((130, 130), IGNORE, np.uint8)

    model = Segmenter(num_classes=2, encoder="test_resnet", encoder_weights="none").eval()
    model.set_normalization((0.0,) * 3, (1e-30,) * 3)
    backend = TorchBackend(model, device="cpu")
    with pytest.raises(DataError, match=r"spoilt\.tif: the model's logits .* 1 to 1e\+30"):
        score(
            backend,
            Dataset("made", "records", model.classes, Labels(), {"val": (Record("spoilt", path, path),)}),
            "val",
            channels=3,
            batch_size=1,
            device=torch.device("cpu"),
            tile_planner=TilePlanner(backend, tile_px=tile_px),
        )


def test_16_bit_images_are_described_too():
    class Broken(Overflowing):
        def coarse_logits(self, images):
            return super().coarse_logits(images) * math.inf

    with pytest.raises(DataError, match="7 to 7"):
        predict_labels(Broken(), torch.full((1, 3, 4, 4), 7, dtype=torch.uint16))
