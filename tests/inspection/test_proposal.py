from pathlib import Path

import pytest
import yaml

from planting import FORMATS, write_dataset
from pyramidseg.base.config import DataConfig
from pyramidseg.base.overrides import make_config
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.inspect_pair import ImageFacts
from pyramidseg.inspection.proposal import propose_settings
from pyramidseg.inspection.training_check import check_dataset


def facts(*sizes: tuple[int, int], channels: int = 3) -> list[ImageFacts]:
    return [ImageFacts(height, width, channels, "uint8") for height, width in sizes]


@pytest.mark.parametrize(
    ("sizes", "crop"),
    [
        ([(360, 480)] * 9, [320, 320]),
        ([(72, 96)] * 9, [64, 96]),
        ([(20, 31)] * 3, [32, 32]),
        ([(1024, 2048)] * 9, [512, 512]),
        ([(200, 1000)] * 9, [192, 320]),
        ([(90, 90)] + [(480, 640)] * 30, [320, 320]),
    ],
)
def test_crop_follows_the_sizes(sizes: list[tuple[int, int]], crop: list[int]) -> None:
    assert propose_settings(facts(*sizes))["data"]["crop"] == crop


def test_channels_are_proposed_if_they_are_not_three() -> None:
    assert propose_settings(facts((64, 64), channels=8))["model"] == {"in_channels": 8}
    assert "model" not in propose_settings(facts((64, 64)))


@pytest.mark.parametrize("format", FORMATS)
def test_proposed_dataset_opens_as_the_same_dataset(tmp_path: Path, format: str) -> None:
    layout = FORMATS[format](tmp_path / "data")
    write_dataset(layout, seed=1, good=12)
    inspection = inspect_dataset(layout.source)
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "dataset.yaml"
    file.write_text(inspection.proposal.dataset_yaml())
    again = open_dataset(file, DataConfig())
    assert again.classes == inspection.dataset.classes
    assert again.masks == inspection.dataset.masks or format in ("coco", "labelme")
    assert {split: [record.id for record in records] for split, records in again.splits.items()} == {
        split: [record.id for record in records] for split, records in inspection.dataset.splits.items()
    }
    assert check_dataset(again).splits == inspection.summaries


def test_proposed_settings_are_valid(tmp_path: Path) -> None:
    layout = FORMATS["paired"](tmp_path / "data")
    write_dataset(layout, seed=2, good=8)
    settings = inspect_dataset(layout.source).proposal.settings
    config = make_config(yaml.safe_load(yaml.safe_dump(settings)))
    assert config.data.crop == (32, 32)
