import math

import pytest
import torch

from pyramidseg.config import ModelConfig
from pyramidseg.predict import memory
from pyramidseg.predict.memory import bytes_per_pixel, free_bytes
from pyramidseg.predict.skeleton import skeleton

SMALL = {"encoder": "test_resnet", "encoder_weights": "none"}


def test_the_need_grows_with_the_channels_and_covers_every_map_that_is_kept():
    narrow, wide = (
        bytes_per_pixel(skeleton(ModelConfig(**SMALL, pyramid_channels=width, segmentation_channels=width), 5))
        for width in (32, 128)
    )
    # At the merge, at least two maps of 128 channels are alive at stride 4, in float32.
    assert wide > 2 * 128 * 4 / 4**2
    assert wide > narrow > 3 * 4  # the normalised image alone


def test_the_peak_counts_what_is_alive_at_a_time():
    with memory._LiveBytes() as live:
        first = torch.empty(100, device="meta")
        second = first.view(10, 10) + 1  # a view is no memory of its own
        del first
        third = second.double()
        del second
        third.add_(1)
    assert live.peak == 4 * 100 + 8 * 100
    assert live.live == 8 * 100


def test_free_memory_of_this_machine_is_between_nothing_and_all():
    assert 0 < free_bytes(torch.device("cpu")) < 2**50


def group(tmp_path, limit, usage, statistics):
    files = tuple(tmp_path / name for name in ("limit", "usage", "statistics"))
    for file, text in zip(files, (limit, usage, statistics), strict=True):
        file.write_text(text)
    return files


def test_a_containers_limit_counts_and_its_cached_files_are_free(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUPS", (group(tmp_path, "1000\n", "900\n", "anon 1\ninactive_file 300\n"),))
    assert free_bytes(torch.device("cpu")) == 400


@pytest.mark.parametrize("limit", ["max\n", str(2**63 - 4096)])
def test_a_container_without_a_limit_has_the_machines_memory(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(memory, "_CGROUPS", (group(tmp_path, limit, "900\n", "inactive_file 300\n"),))
    monkeypatch.setattr(memory, "_free_of_machine", lambda: 12345)
    assert free_bytes(torch.device("cpu")) == 12345


def test_the_kernels_estimate_is_taken_where_there_is_one(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:       7 kB\n")
    assert memory._free_of_machine(tmp_path / "meminfo") == 7 * 1024
    assert memory._free_of_machine(tmp_path / "absent") > 0
    assert math.isfinite(memory._free_of_machine(tmp_path / "absent"))
