import math

import pytest
import torch

from pyramidseg.base import machine as free_memory
from pyramidseg.base.machine import free_bytes


def test_free_memory_of_this_machine_is_between_nothing_and_all():
    assert 0 < free_bytes(torch.device("cpu")) < 2**50


def group(tmp_path, limit, usage, statistics):
    for name, text in (("max", limit), ("current", usage), ("stat", statistics)):
        (tmp_path / f"memory.{name}").write_text(text)
    return tmp_path


def test_a_containers_limit_counts_and_its_cached_files_are_free(tmp_path, monkeypatch):
    statistics = "anon 1\ninactive_file 300\n"
    monkeypatch.setattr(free_memory, "_CONTROL_GROUP", group(tmp_path, "1000\n", "900\n", statistics))
    assert free_bytes(torch.device("cpu")) == 400


@pytest.mark.parametrize("limit", ["max\n", str(2**63 - 4096)])
def test_a_container_without_a_limit_has_the_machines_memory(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(free_memory, "_CONTROL_GROUP", group(tmp_path, limit, "900\n", "inactive_file 300\n"))
    monkeypatch.setattr(free_memory, "_free_of_machine", lambda: 12345)
    assert free_bytes(torch.device("cpu")) == 12345


def test_the_kernels_estimate_is_taken_where_there_is_one(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:       7 kB\n")
    assert free_memory._free_of_machine(tmp_path / "meminfo") == 7 * 1024
    assert free_memory._free_of_machine(tmp_path / "absent") > 0
    assert math.isfinite(free_memory._free_of_machine(tmp_path / "absent"))
