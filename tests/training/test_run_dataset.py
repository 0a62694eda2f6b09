"""RUN holds all that a run needs to be repeated: its settings, and its dataset as it was understood."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import pyramidseg as ps
from pyramidseg.base.config import DataConfig
from pyramidseg.base.overrides import load_config, parse_override
from pyramidseg.formats.open_dataset import open_dataset
from support import TINY


@pytest.fixture
def cracks(tmp_path: Path) -> Path:
    """Binary masks with stray values, images of two sequences, and no val split."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "cracks"
    for inner in ("images", "masks"):
        (folder / inner).mkdir(parents=True)
    for index in range(6):
        name = f"road{index // 3}_{index}"
        mask = np.where(rng.random((64, 64)) < 0.2, 255, 0).astype(np.uint8)
        mask[:2] = 3
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{name}_label.png")
    return folder


def test_run_is_repeated_from_its_own_folder(cracks: Path, tmp_path: Path) -> None:
    said = {"data.binary": True, "data.ignore": [3], "data.inverted": True, "data.group": "^road[0-9]"}
    tiny = {"train.epochs": 1, "data.workers": 0}
    config = load_config(overrides=dict(parse_override(text) for text in TINY) | said | tiny)
    first = ps.train(cracks, out=tmp_path / "first", config=config)
    saved = first.folder / "dataset.yaml"
    again = ps.train(saved, out=tmp_path / "again", config=first.folder / "config.yaml")
    for column in ("train_loss", "val_miou"):
        assert again.history[0][column] == first.history[0][column]
    recorded = yaml.safe_load(saved.read_text(encoding="utf-8"))["recorded"]
    assert recorded["images"] == {"train": 3, "val": 3}
    assert any("binary masks: 0 and 255 are foreground and background" in note for note in recorded["notes"])


def test_dataset_file_of_a_run_is_enough_to_read_the_data_as_it_did(cracks: Path, tmp_path: Path) -> None:
    dataset = open_dataset(cracks, DataConfig(threshold=100, inverted=True))
    saved = tmp_path / "dataset.yaml"
    saved.write_text(yaml.safe_dump(dict(dataset.description)), encoding="utf-8")
    again = open_dataset(saved, DataConfig())
    for record in again.split("val"):
        assert np.array_equal(again.masks.read(record), dataset.masks.read(record))
