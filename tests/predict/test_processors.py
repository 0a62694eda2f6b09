import os

import pytest
import torch

from pyramidseg.base.machine import available_processors
from pyramidseg.predict import pipeline


@pytest.mark.parametrize(("text", "expected"), [("max 100000\n", 64), ("150000 100000\n", 2), ("10000 100000\n", 1)])
def test_the_processors_of_a_container_are_its_share(tmp_path, monkeypatch, text, expected):
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr("pyramidseg.base.machine._CONTROL_GROUP", tmp_path)
    assert available_processors() == expected
    assert pipeline.stage_threads() == max(1, min(8, expected // 2))


def test_torch_starts_no_more_threads_than_there_are_processors(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        monkeypatch.setattr(pipeline, "available_processors", lambda: 2)
        pipeline.use_available_processors()
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(pipeline, "available_processors", lambda: 64)
        pipeline.use_available_processors()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
