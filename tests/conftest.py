"""Shared by all tests: made datasets, and the command line as people start it."""

import gc
import logging
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # no test fails because the machine is busy
settings.load_profile("any machine")

# What imports torch is imported within functions: the process that hands out tests to others needs none of it.

os.environ["PYRAMIDSEG_CACHE"] = "off"  # no test reads or writes the user's cache


SLOW = (
    *(
        "studies/",
        "training/test_fast_paths",
        "training/test_float16",
        "training/test_fit",
        "export/",
        "training/test_resume",
        "test_docs",
    ),
    *("model/test_encoder", "training/test_distributed", "training/test_processes", "predict/test_fork", "backends/"),
    *("test_public_names", "model/test_oracle", "model/test_import", "model/test_hub", "cli/test_commands"),
    *(
        "cli/test_errors",
        "cli/test_demo",
        "cli/test_import_",
        "cli/test_label_loop",
        "cli/test_names",
        "evaluation/",
        "pretrain/",
        "predict/test_clusters",
        "predict/test_scene_polygons",
        "predict/test_scene_resumption",
        "predict/test_scenes",
        "predict/test_zarr",
        "predict/test_video",
    ),
    *(
        "training/test_multiband",
        "training/test_scene_training",
        "training/test_halved_batches",
        "training/test_auto_runs",
        "training/test_interrupt",
        "training/test_run_dataset",
        "training/test_freezing",
        "training/test_unlabeled",
        "training/test_auto_plan",
        "data/test_unlabeled_images",
        "serve/test_label_training",
    ),
    *("model/test_packaged_weights", "model/test_feature_levels", "model/test_segmenter"),
    *("base/test_portability", "base/test_processes", "base/test_output_lock", "base/test_json_stream"),
    *(
        "advice/test_runs",
        "advice/test_exports",
        "advice/test_memory",
        "advice/test_weights",
        "advice/test_command_settings",
        "campaigns/",
        "inspection/test_campaign",
        "compatibility/",
        "formats/test_coco",
        "formats/test_roboflow",
    ),
    *(
        "images/test_tiff",
        "images/test_hostile_tiff",
        "annotations/test_polygons",
        "serve/test_page_",
        "serve/test_server",
        "serve/test_engine",
        "serve/test_reload",
        "serve/test_workers",
        "serve/test_campaigns",
        "serve/test_disk_and_clock",
    ),
    *("model/test_reassociation", "demo/test_scenes", "model/test_cost", "formats/test_pair_lists"),
    *(
        "training/test_initial_weights",
        "advice/test_comparisons",
        "formats/test_convert",
        "formats/test_resumed_conversion",
        "model/test_unexpected_bundles",
    ),
    *("inspection/test_hostile_files", "report/test_figures", "predict/test_tiling", "model/test_stages"),
    *("model/test_state_dict_check", "base/test_exhaustion", "predict/test_not_finite"),
    *(
        "advice/test_python_arguments",
        "formats/test_space_splitting",
        "formats/test_geojson_writer",
        "formats/test_class_names",
        "inspection/test_inspect_pair",
        "inspection/test_defects_between_images",
        "annotations/test_contours",
        "formats/test_exactness",
        "data/test_loading",
        "predict/test_predict_files",
        "advice/test_further_commands",
        "predict/test_tile_planner",
        "predict/test_scene_faults",
        "predict/test_slides",
        "model/test_classifier",
        "training/test_optim",
    ),
    *(
        "advice/test_folder_proposals",
        "advice/test_label_proposals",
        "formats/test_levels_and_numbers",
        "formats/test_paddle",
        "formats/test_joined",
        "formats/test_huggingface",
        "formats/test_mask_names",
        "formats/test_paired",
        "formats/test_scene_cutting",
        "formats/test_name_matching",
        "formats/test_label_settings",
        "formats/test_split_lists",
        "formats/test_unlisted_splits",
        "formats/test_written_classes",
        "inspection/test_unusable_parts",
        "inspection/test_inspection_report",
        "inspection/test_inspect_dataset",
        "cli/test_inspect",
        "cli/test_predictions",
        "predict/test_remote_prediction",
        "predict/test_label_maps",
        "predict/test_resampling",
        "predict/test_models_on_the_hub",
        "predict/test_receptive_field",
        "training/test_trackers",
        "model/test_static_padding",
        "base/test_ledger",
    ),
)
"""Beginnings of the paths of tests that train, export, start processes or compute for seconds, the longest first: they
run in this order, so that no process is left with a long file in the end, and `make test-fast` leaves them out."""


def rank(path: Path) -> int:
    """Its place among the beginnings of `SLOW`; their number for a file that is not slow."""
    name = path.relative_to(Path(__file__).parent).as_posix()
    return next((at for at, start in enumerate(SLOW) if name.startswith(start)), len(SLOW))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import slow files where none of their tests is to run."""
    slow = collection_path.suffix == ".py" and rank(collection_path) < len(SLOW)
    return True if slow and config.option.markexpr == "not slow" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests, and put them first."""
    ranks: dict[Path, int] = {}
    for item in items:
        if item.path not in ranks:
            ranks[item.path] = rank(item.path)
        if ranks[item.path] < len(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: ranks[item.path])


def pytest_collection() -> None:
    """What is imported and collected stays to the end: the garbage collector need not visit it, now or later."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fork the process that new ones are forked from, while nothing has been computed in this one."""
    gc.freeze()
    gc.enable()
    import torch

    import forks

    torch.set_num_threads(1)  # the tests' networks are tiny: threads would only wait for each other
    if any(item.get_closest_marker("slow") for item in session.items):
        forks.begin()


def pytest_sessionfinish() -> None:
    """End it."""
    gc.unfreeze()
    if "forks" in sys.modules:
        sys.modules["forks"].end()


@pytest.fixture(autouse=True)
def nothing_is_left_of_earlier_tests() -> None:
    """A command keeps messages from the root logger, where `caplog` listens, has a level, and may handle Ctrl-C."""
    logging.getLogger("pyramidseg").propagate = True
    logging.getLogger("pyramidseg").setLevel(logging.NOTSET)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made dataset of 20 training and 5 validation scenes; not to be changed."""
    from pyramidseg.demo.scenes import write_scenes

    return write_scenes(tmp_path_factory.mktemp("scenes"), train=20, val=5, height=72, width=96).parent


@pytest.fixture(autouse=True, scope="session")
def no_figures() -> Iterator[None]:
    """Reports have no figures, except where a test asks for `figures`."""
    from support import without_figures

    with without_figures():
        yield


@pytest.fixture(autouse=True, scope="session")
def timing_collects_no_garbage() -> Iterator[None]:
    """Times are compared without full collections before, half a second each with all that tests import."""
    from pyramidseg.base import timing

    nothing = types.SimpleNamespace(collect=int, freeze=int, unfreeze=int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "gc", nothing)
        yield


@pytest.fixture
def figures() -> Iterator[None]:
    """`drawn_figures` for a test; the fixtures of its module come before it."""
    from support import drawn_figures

    with drawn_figures():
        yield


@pytest.fixture
def forked_interpreters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks processes where `subprocess.run` would start an interpreter."""
    import forks

    monkeypatch.setattr(subprocess, "run", forks.run_command)
