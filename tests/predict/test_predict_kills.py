"""A few kills at random; `python -m tests.campaigns.predict_kills` kills a hundred processes."""

import sys

import pytest

from campaigns.predict_kills import run_campaign


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_predictions_continue_to_identical_outputs(tmp_path):
    counts = run_campaign(tmp_path, kills=3, images=30, seed=1)
    assert counts["killed"] == 3
    assert counts["completed"] >= 1
