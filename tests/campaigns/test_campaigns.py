"""A few trials of each campaign; `make campaign` runs them for an hour."""

import os
import sys
from pathlib import Path

import pytest

from forks import run_python
from support import process_environment

NAMES = (
    *("images", "labels", "bundles", "checkpoints", "payloads", "predict_kills", "train_kills", "convert_kills"),
    *("non_finite", "shapes", "resources", "two_processes", "odd_names", "many_files"),
)
"""All but exports and export_kills: exports take half a minute to be made."""

CAMPAIGNS = """
import runpy
from support import without_figures

with without_figures():
    runpy.run_module("campaigns", run_name="__main__", alter_sys=True)
"""
"""`python -m campaigns` without the figures of training runs, which no campaign reads."""

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or sys.platform == "darwin", reason="forks, and limits of Linux"
)


def test_a_few_trials_of_each_campaign_have_no_failures() -> None:
    environment = {**process_environment(), "CAMPAIGN_FILES": "60"}
    del environment["PYTHONWARNINGS"]  # decoders warn about damaged files
    ended = run_python("-c", CAMPAIGNS, "--trials", "1", *NAMES, environment=environment, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count(" 0 failures") == len(NAMES)


def test_the_harness_reports_tracebacks_hangs_and_other_statuses() -> None:
    from campaigns.harness import Outcome

    assert Outcome(0, 1, 1, "", "").failure() is None
    assert "traceback: ValueError: no" in str(
        Outcome(1, 1, 1, "", "Traceback (most recent call last):\nValueError: no").failure()
    )
    assert Outcome(-9, 60, 1, "", "").failure() == "still running after 60 s"
    assert "status 3 instead of (0, 2)" in str(Outcome(3, 1, 1, "", "").failure(allowed=(0, 2)))
    assert Outcome(2, 1, 1, "", "error: \x1b[2J").failure() == "a terminal escape was printed"
    assert Outcome(2, 1, 1, "", "error: a: no such file\n").failure() is None
    assert "2 lines instead of one" in str(Outcome(2, 1, 1, "", "error: a\nerror: b\n").failure())


def test_killed_runs_are_compared_by_the_tensors_and_not_by_the_order_in_the_header(tmp_path: Path) -> None:
    from campaigns.harness import content_of

    def write(name: str, header: str, tensor: bytes) -> bytes:
        (tmp_path / name).write_bytes(len(header).to_bytes(8, "little") + header.encode() + tensor)
        return content_of(tmp_path / name)

    whole = write("a.safetensors", '{"a": 1, "b": 2}', b"12")
    assert write("b.safetensors", '{"b": 2, "a": 1}', b"12") == whole
    assert write("c.safetensors", '{"b": 2, "a": 1}', b"13") != whole
    assert write("d.safetensors", '{"b": 2, "a": 3}', b"12") != whole
