"""What tests share, apart from fixtures."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from matplotlib.figure import Figure

TINY = (
    "model.encoder=test_resnet",
    "model.encoder_weights=none",
    "model.pyramid_channels=32",
    "model.segmentation_channels=32",
    "data.crop=64",
)
"""A network small enough that a step takes milliseconds."""

TINY_SETTINGS: dict[str, Any] = {
    "encoder": "test_resnet",
    "encoder_weights": "none",
    "pyramid_channels": 32,
    "segmentation_channels": 32,
    "crop": 64,
    "device": "cpu",
}
"""The same for `ps.train`."""


def process_environment() -> dict[str, str]:
    """Offline, warnings as errors, and one thread, so that tests do not fight for the machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "error"}


SAVE_FIGURE = Figure.savefig


@contextmanager
def without_figures() -> Iterator[None]:
    """Leaves empty the eight figures of each training run, which take longer than the tests' trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, file, **options: None)
        yield
