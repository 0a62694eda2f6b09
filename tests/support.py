"""What tests share, apart from fixtures."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pyramidseg.evaluation import evaluation_report, score_plots
from pyramidseg.model.bundle import KIND
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.tensor_files import read_verified
from pyramidseg.pretrain import classification_task
from pyramidseg.studies import compare_report

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


def tiny_segmenter(**settings: Any) -> Segmenter:
    """An untrained network of 3 classes, whose pyramid and head are 32 channels wide unless told otherwise."""
    widths = {"pyramid_channels": 32, "segmentation_channels": 32}
    return Segmenter(**{"num_classes": 3, "encoder": "test_resnet", "encoder_weights": "none", **widths, **settings})


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """The last weights of a run."""
    return read_verified(run / "last.safetensors", kind=KIND)[0]


def assert_same_bits(run: Path, reference: Path) -> None:
    """Two runs ended with the same weights."""
    found, expected = weights_of(run), weights_of(reference)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def process_environment() -> dict[str, str]:
    """Offline, warnings as errors, and one thread, so that tests do not fight for the machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "error"}


DRAWING = {
    (module, name): getattr(module, name)
    for module, names in (
        (evaluation_report, ("iou_bars", "confusion_heatmap", "training_curves")),
        (score_plots, ("iou_bars", "confusion_heatmap", "training_curves")),
        (classification_task, ("training_curves",)),
        (compare_report, ("error_curves", "cost_scatter")),
    )
    for name in names
}
"""What draws the figures of reports, by module and name."""


@contextmanager
def without_figures() -> Iterator[None]:
    """Leaves figures empty: the eight of a training run take longer than the tests' trainings."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in DRAWING:
            patch.setattr(module, name, lambda *_, **__: b"")
        yield


@contextmanager
def drawn_figures() -> Iterator[None]:
    """Draws them all the same."""
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), draw in DRAWING.items():
            patch.setattr(module, name, draw)
        yield
