"""Sections of benchmarks/speed in their reduced form."""

from pathlib import Path

import pytest
import torch
from benchmarks.speed import epoch
from benchmarks.speed.models import Workshop
from benchmarks.speed.settings import Bench, Settings
from benchmarks.speed.training import OURS, PEER, TUNED

from pyramidseg.benchmark.roofline import Roofline


def test_an_epoch_of_each_contestant_goes_through_the_same_images(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch, "CROP_PX", 64)
    workshop = Workshop(tmp_path, classes=8, side_px=64, on_cpu=True, say=print)
    said: list[object] = []
    settings = Settings(batch=4, rounds=1, camvid=str(scenes))
    rows = epoch.measure_epoch(Bench(settings, torch.device("cpu"), Roofline({"fp32": 1e9}), workshop, said.append))
    assert [row.who for row in rows] == [PEER, TUNED, OURS]
    assert {row.images for row in rows} == {20}
    assert all(row.ms is not None and row.ms > 0 for row in rows)
    assert rows[-1].waiting_share is not None and 0 <= rows[-1].waiting_share <= 1
    assert set(rows[-1].times_as_fast) == {PEER, TUNED}
