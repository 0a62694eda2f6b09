"""Shared by all tests: made datasets, and the command line as people start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from pyramidseg.demo.scenes import write_scenes
from support import CommandLine, process_environment

os.environ["PYRAMIDSEG_CACHE"] = "off"  # no test reads or writes the user's cache
torch.set_num_threads(1)  # the tests' networks are tiny: threads would only wait for each other


SLOW = (
    *("studies/", "training/test_fast_paths", "training/test_fit", "export/", "training/test_resume", "test_docs"),
    *("model/test_encoder", "training/test_distributed", "training/test_processes", "predict/test_fork", "backends/"),
    *("test_public_names", "model/test_oracle", "model/test_imports", "model/test_hub", "cli/test_commands"),
    *(
        "cli/test_errors",
        "cli/test_demo",
        "cli/test_import_",
        "cli/test_names",
        "evaluation/",
        "pretrain/",
        "predict/test_clusters",
    ),
    *("training/test_multiband", "training/test_interrupt", "training/test_run_dataset", "training/test_freezing"),
    *("model/test_packaged_weights", "model/test_feature_levels", "model/test_segmenter"),
    *("base/test_portability", "base/test_output_lock", "base/test_json_stream"),
    *(
        "advice/test_runs",
        "advice/test_command_settings",
        "campaigns/",
        "inspection/test_campaign",
        "compatibility/",
        "formats/test_coco",
        "formats/test_roboflow",
    ),
    *("images/test_tiff", "annotations/test_polygons", "serve/test_page"),
)
"""Beginnings of the paths of tests that train, export or start processes, the longest first: they run in this order, so
that no process is left with a long file in the end, and `make test-fast` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, and put them first."""
    tests = Path(__file__).parent
    ranks: dict[Path, int] = {}
    for item in items:
        if item.path not in ranks:
            name = item.path.relative_to(tests).as_posix()
            ranks[item.path] = next((at for at, start in enumerate(SLOW) if name.startswith(start)), len(SLOW))
        if ranks[item.path] < len(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: ranks[item.path])


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made dataset of 20 training and 5 validation scenes; not to be changed."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), train=20, val=5, height=72, width=96).parent


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves empty the eight figures of each training run, which take longer than the tests' trainings."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: None)


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
