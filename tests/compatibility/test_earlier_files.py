"""Files written by commit 43a6438, before the rooms and names of the package changed: they still load.

The bundles were trained for one epoch on tiny synthetic scenes; `stopped_run` is a run of three steps that stopped
after the second. `labels.npz` holds an image and what the old code predicted for it with each of them.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pyramidseg as ps

FILES = Path(__file__).parent / "files"
SAME = 0.999
"""Share of equal labels: another processor adds in another order, which may decide a pixel between two classes."""


def agreement(bundle: Path, name: str) -> float:
    with np.load(FILES / "labels.npz") as stored:
        expected: NDArray[np.uint8] = stored[name]
        predicted = ps.Predictor(bundle, device="cpu").predict(stored["image"]).labels
    return float((predicted == expected).mean())


@pytest.mark.parametrize("name", ["trained", "concat_stride2"])
def test_earlier_bundles_predict_equal_labels(name: str) -> None:
    assert agreement(FILES / f"{name}.safetensors", name) >= SAME


def test_an_earlier_run_is_resumed_to_equal_labels(tmp_path: Path) -> None:
    shutil.copytree(FILES / "stopped_run", tmp_path / "run")
    run = ps.train(FILES / "scenes", out=tmp_path / "run", resume=True, config=tmp_path / "run" / "config.yaml")
    assert len(run.history) == 1
    assert agreement(run.last, "stopped_run") >= SAME
