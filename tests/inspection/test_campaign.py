"""Planted defects: all of them are found and named, and nothing else is."""

from collections import Counter
from pathlib import Path

import pytest

from planting import FORMATS, write_dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset

TIMES = 4


@pytest.mark.parametrize("format", FORMATS)
def test_exactly_the_planted_defects_are_found(tmp_path: Path, format: str) -> None:
    layout = FORMATS[format](tmp_path / "data")
    planted = write_dataset(layout, seed=len(format), good=220, times=TIMES)
    found = [(defect.kind, defect.file) for defect in inspect_dataset(layout.source).defects]
    assert Counter(found) == Counter(planted)


def test_campaign_plants_enough_defects(tmp_path: Path) -> None:
    layouts = [FORMATS[format](tmp_path / format) for format in FORMATS]
    assert len({defect for layout in layouts for defect in layout.defects}) >= 25
    assert TIMES * sum(len(layout.defects) for layout in layouts) >= 500


@pytest.mark.parametrize("format", FORMATS)
def test_clean_data_has_no_defects(tmp_path: Path, format: str) -> None:
    layout = FORMATS[format](tmp_path / "data")
    write_dataset(layout, seed=9, good=60)
    inspection = inspect_dataset(layout.source)
    assert inspection.defects == ()
    assert not inspection.classes_unclear
