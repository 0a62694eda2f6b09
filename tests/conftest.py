"""Shared by all tests: made datasets, and the command line as people start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyramidseg.demo.scenes import write_scenes
from support import CommandLine, process_environment

os.environ["PYRAMIDSEG_CACHE"] = "off"  # no test reads or writes the user's cache
torch.set_num_threads(1)  # the tests' networks are tiny: threads would only wait for each other


SLOW = (
    *("backends/", "export/", "studies/", "pretrain/", "compatibility/", "formats/test_coco", "formats/test_roboflow"),
    *("training/test_resume", "training/test_distributed", "training/test_fit", "training/test_fast_paths"),
    *(
        "training/test_interrupt",
        "training/test_processes",
        "training/test_multiband",
        "training/test_run_dataset",
        "training/test_freezing",
    ),
    *("images/test_tiff", "base/test_json_stream", "evaluation/test_score_plots", "annotations/test_polygons"),
    *(
        "cli/test_errors",
        "cli/test_commands",
        "cli/test_demo",
        "cli/test_import_",
        "base/test_portability",
        "base/test_output_lock",
    ),
    *("evaluation/test_scoring", "model/test_imports", "model/test_encoder", "model/test_hub", "model/test_oracle"),
    *("model/test_feature_levels", "model/test_pyramid_picture", "model/test_segmenter", "inspection/test_campaign"),
    *("test_docs", "test_public_names", "predict/test_predict_kills", "predict/test_clusters"),
    "campaigns/",
)
"""Beginnings of the paths of tests that train, export or start processes: `make test-fast` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made dataset of 20 training and 5 validation scenes; not to be changed."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), train=20, val=5, height=72, width=96).parent


@pytest.fixture
def pyramidseg() -> CommandLine:
    """Run `pyramidseg ...` in a process of its own; returns status, output and errors."""

    def run(*arguments: object, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pyramidseg", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=process_environment(),
            check=False,
        )

    return run
