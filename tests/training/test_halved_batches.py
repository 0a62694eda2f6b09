"""Batches that do not fit into memory are halved within the run, and a resumed run has the same batches."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import pyramidseg as ps
from forks import PythonProcess
from pyramidseg.backends import TorchBackend
from pyramidseg.base.errors import OutOfMemory
from pyramidseg.cli.main import main
from pyramidseg.data.loading import Batch
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training import segmentation_task
from pyramidseg.training.checkpoint import Checkpoints
from pyramidseg.training.progress import TrainingProgress
from support import TINY, TINY_SETTINGS, assert_same_bits

SETTINGS = (*TINY, "train.epochs=2", "train.checkpoint_minutes=0", "data.workers=0", "train.device=cpu")

LIMITED = """
import sys
from pyramidseg.cli.main import main
from pyramidseg.model.segmenter import Segmenter
from support import without_figures

normalize, calls = Segmenter.normalize, 0

def limited(model, images):
    global calls
    calls += model.training
    if model.training and calls > 6 and len(images) > 2:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    return normalize(model, images)

Segmenter.normalize = limited
with without_figures():
    sys.exit(main(sys.argv[1:]))
"""
"""The command line, where from the seventh training batch on only two images fit."""


def limit(monkeypatch: pytest.MonkeyPatch, images: int) -> list[int]:
    """Let only so many images fit in training; returns the sizes of all batches that were tried."""
    tried: list[int] = []
    normalize = Segmenter.normalize

    def limited(model: Segmenter, batch: torch.Tensor) -> torch.Tensor:
        if model.training:
            tried.append(len(batch))
            if len(batch) > images:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return normalize(model, batch)

    monkeypatch.setattr(Segmenter, "normalize", limited)
    return tried


def test_a_batch_is_split_in_nearly_equal_parts_without_loss() -> None:
    images, labels = torch.arange(5.0)[:, None, None, None], torch.arange(5)[:, None, None]
    batch = Batch(images, labels, tuple((0, index) for index in range(5)))
    assert batch.split(None) == [batch] and batch.split(5) == [batch]
    parts = batch.split(3)
    assert [len(part.keys) for part in parts] == [3, 2]
    assert torch.equal(torch.cat([part.images for part in parts]), images)
    assert torch.equal(torch.cat([part.labels for part in parts]), labels)
    assert [key for part in parts for key in part.keys] == list(batch.keys)
    assert [len(part.keys) for part in batch.split(1)] == [1] * 5


def test_halved_twice_the_weights_are_those_of_a_quarter_batch_accumulated(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**TINY_SETTINGS, "epochs": 1, "workers": 0, "dropout": 0.0}
    ps.train(scenes, out=tmp_path / "single", batch_size=1, accumulate=4, **settings)
    tried = limit(monkeypatch, 1)
    ps.train(scenes, out=tmp_path / "halved", batch_size=4, **settings)
    assert tried == [4, 2, *[1] * 20]
    assert [text for text in caplog.messages if text.startswith("out of memory")] == [
        f"out of memory with {large} crops at once: from here on at most {small}, whose gradients are added up, so "
        "that a step has as many crops as before"
        for large, small in ((4, 2), (2, 1))
    ]
    assert_same_bits(tmp_path / "halved", tmp_path / "single")


@pytest.mark.parametrize(("settings", "tried"), [({}, [4, 2, 1]), ({"crop": 32}, [4])])
def test_where_nothing_can_be_halved_the_error_has_the_crop(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], tried: list[int]
) -> None:
    found = limit(monkeypatch, 0)
    crop = settings.get("crop", 64)
    with pytest.raises(OutOfMemory, match=rf"out of memory: lower data.crop=\[{crop}, {crop}\], in a new run"):
        ps.train(scenes, out=tmp_path / "run", **{**TINY_SETTINGS, "batch_size": 4, "workers": 0, **settings})
    assert found == tried


def test_validation_is_halved_until_it_fits_and_scores_are_the_same(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**TINY_SETTINGS, "epochs": 2, "workers": 0, "precision": "fp32"}
    whole = ps.train(scenes, out=tmp_path / "whole", **settings)
    normalize, saved, fit = Segmenter.normalize, Checkpoints.save, list[int]()

    def limited(model: Segmenter, batch: torch.Tensor) -> torch.Tensor:
        if not model.training and len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return normalize(model, batch)

    def save(checkpoints: Checkpoints, components: object, progress: TrainingProgress, counts: torch.Tensor) -> None:
        fit.append(progress.largest_val_batch or 0)
        saved(checkpoints, components, progress, counts)  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "normalize", limited)
    monkeypatch.setattr(Checkpoints, "save", save)
    halved = ps.train(scenes, out=tmp_path / "halved", **settings)
    assert [text for text in caplog.messages if text.startswith("out of memory")] == [
        f"out of memory in validation with batches of {large}: from here on of {small}"
        for large, small in ((4, 2), (2, 1))
    ]
    assert fit == [2, 1, 1], "when it is halved, and at the end"
    assert_same_bits(halved.folder, whole.folder)
    for first, second in zip(whole.history, halved.history, strict=True):
        assert first["val_loss"] == pytest.approx(second["val_loss"], rel=1e-5)
        assert first["val_miou"] == pytest.approx(second["val_miou"], abs=1e-3)


def limit_report(monkeypatch: pytest.MonkeyPatch, images: int, error: Exception) -> list[int]:
    """Let only so many images fit once the report has loaded the bundle; returns the sizes that it has tried."""
    normalize, tried, backends = Segmenter.normalize, list[int](), list[TorchBackend]()

    def backend(*given: Any, **options: Any) -> TorchBackend:
        backends.clear()  # its constructor computes, too
        backends.append(TorchBackend(*given, **options))
        return backends[-1]

    def limited(model: Segmenter, batch: torch.Tensor) -> torch.Tensor:
        if backends:
            tried.append(len(batch))
            if len(batch) > images:
                raise error
        return normalize(model, batch)

    monkeypatch.setattr(segmentation_task, "TorchBackend", backend)
    monkeypatch.setattr(Segmenter, "normalize", limited)
    return tried


OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["gpu", "cpu"])
def test_the_report_is_halved_until_it_fits_and_a_resumed_run_keeps_it(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    settings = {**TINY_SETTINGS, "epochs": 1, "workers": 0}
    tried = limit_report(monkeypatch, 1, error)
    run = ps.train(scenes, out=tmp_path / "run", **settings)
    assert tried[:3] == [4, 2, 1]
    assert set(tried[3:]) == {1}
    assert [text for text in caplog.messages if text.startswith("out of memory")] == [
        f"out of memory in validation with batches of {large}: from here on of {small}"
        for large, small in ((4, 2), (2, 1))
    ]
    run.report.unlink()
    tried.clear()
    ps.train(scenes, out=tmp_path / "run", resume=True, **settings)
    assert run.report.is_file()
    assert set(tried) == {1}


def test_a_report_that_does_not_fit_at_all_is_an_error_after_one_image(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = limit_report(monkeypatch, 0, OUT_OF_MEMORY[0])
    with pytest.raises(OutOfMemory, match="the GPU is out of memory"):
        ps.train(scenes, out=tmp_path / "run", **{**TINY_SETTINGS, "epochs": 1, "workers": 0})
    assert tried == [4, 2, 1]


def run_limited(words: list[str], *, until: Path | None = None) -> None:
    """Train in a process with little memory, to the end, or until a file is there: then it is killed."""
    with PythonProcess("-c", LIMITED, *words) as process:
        while until is not None and not process.has_ended():
            if until.exists():
                process.send(signal.SIGKILL)
                break
        status = process.wait()
    assert status == (0 if until is None else -signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose batch is halved in its seventh step, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run_limited(["train", str(scenes), *SETTINGS, "--out", str(out)])
    return out


@pytest.mark.skipif(sys.platform != "linux", reason="kills processes")
@pytest.mark.parametrize(("step", "by_steps"), [(6, 0), (8, 4)])
def test_killed_where_the_batch_was_halved_or_later_it_resumes_in_the_same_bits(
    scenes: Path, whole: Path, tmp_path: Path, step: int, by_steps: int
) -> None:
    """The checkpoint of step 6 is the one that halving writes, and the resumed process has memory enough."""
    out = tmp_path / "run"
    words = ["train", str(scenes), *SETTINGS, f"train.checkpoint_steps={by_steps}", "--out", str(out)]
    run_limited(words, until=out / "checkpoint" / f"step-{step:09d}.safetensors")
    assert main([*words, "--resume"]) == 0
    assert_same_bits(out, whole)
