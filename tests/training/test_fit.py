"""Whole runs on tiny data: what is written, what is skipped, when it stops, what fine-tuning takes over."""

import csv
import functools
import itertools
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pyramidseg as ps
from pyramidseg.base.errors import ConfigError, TrainingError, WeightsError
from pyramidseg.base.overrides import load_config, parse_override
from pyramidseg.model.bundle import read_bundle
from pyramidseg.training import loop, segmentation_task
from pyramidseg.training.checkpoint import Checkpoints
from pyramidseg.training.finite_checks import require_finite
from pyramidseg.training.loop import Run
from pyramidseg.training.progress import TrainingProgress
from support import TINY, assert_same_bits

SETTINGS = dict(parse_override(text) for text in TINY)
AS_THEY_ARE: dict[str, object] = {"in_channels": 1, "normalization": "encoder", "color": 0, "allow_leak": True}
"""For `float_images`: nothing may look at their values before the network does."""


def run_on(data: Path | ps.Dataset, out: Path, **settings: object) -> Run:
    """Train quietly with the tiny network."""
    config = load_config(overrides={**SETTINGS, "data.workers": 0})
    return ps.train(data, out=out, config=config, **{"epochs": 1, **settings})


def rows_of(run: Run) -> list[dict[str, str]]:
    with (run.folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One epoch in fp32; not to be changed."""
    return run_on(scenes, tmp_path_factory.mktemp("trained") / "run", precision="fp32")


def float_images(root: Path, *, broken: int, count: int = 8) -> ps.Dataset:
    """Grey float images, the first `broken` of which hold values that are infinite once they are normalised."""
    root.mkdir()
    rng = np.random.default_rng(0)
    records = []
    for index in range(count):
        image = rng.random((64, 64), dtype=np.float32)
        labels = (image > 0.5).astype(np.uint8)
        image[:] = 2e38 if index < broken else image
        record = ps.Record(f"image{index}", root / f"{index}.tif", root / f"{index}.png")
        assert cv2.imwrite(str(record.image), image)
        assert cv2.imwrite(str(record.mask), labels)
        records.append(record)
    return ps.dataset_from_records(
        train=records, val=records[broken or 1 :][:2] or records[:1], classes=["low", "high"]
    )


def test_cuda_graphs_need_a_gpu(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cuda_graphs: needs a CUDA GPU"):
        run_on(scenes, tmp_path / "run", compile="cuda_graphs", device="cpu")


@pytest.mark.usefixtures("figures")
def test_a_run_holds_what_is_promised(scenes: Path, tmp_path: Path) -> None:
    run = run_on(scenes, tmp_path / "run", epochs=2)
    for name in ("config.yaml", "metrics.csv", "best.safetensors", "last.safetensors", "report.html"):
        assert (run.folder / name).is_file(), name
    assert list((run.folder / "checkpoint").glob("*.safetensors"))
    assert [cv2.imread(str(path)).ndim for path in (run.folder / "plots").glob("*.png")] == [3, 3, 3]
    assert list((run.folder / "tensorboard").glob("events*"))
    rows = rows_of(run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for column in ("train_loss", "train_error", "train_miou", "val_loss", "val_error", "val_miou"):
        assert all(float(row[column]) >= 0 for row in rows)
    again = load_config(run.folder / "config.yaml")
    assert again.to_yaml() == (run.folder / "config.yaml").read_text()


def test_checkpoints_by_time_count_on_from_epoch_to_epoch(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_by_second = functools.partial(Checkpoints, now=itertools.count().__next__)
    monkeypatch.setattr(loop, "Checkpoints", second_by_second)  # asked once a step: no epoch has six of them
    run = run_on(scenes, tmp_path / "run", epochs=3, batch_size=4, checkpoint_minutes=0.1)
    kept = sorted(int(path.stem.removeprefix("step-")) for path in (run.folder / "checkpoint").iterdir())
    assert kept == [12, 15]


def test_the_bundle_scores_what_the_report_says(scenes: Path, trained: Run) -> None:
    bundle = read_bundle(trained.last)
    scores = ps.evaluate(trained.last, scenes)
    assert scores.metrics.miou == pytest.approx(bundle.facts["metrics"]["miou"], abs=1e-6)
    assert bundle.facts["ema"] == load_config(trained.folder / "config.yaml").optim.ema
    assert bundle.facts["data"]["fingerprint"]


def test_steps_that_are_not_finite_are_skipped_counted_and_leave_no_trace(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = float_images(tmp_path / "data", broken=1)
    run = run_on(data, tmp_path / "run", epochs=3, batch_size=2, precision="fp32", **AS_THEY_ARE)
    assert [row["skipped_steps"] for row in rows_of(run)] == ["1", "2", "3"]
    assert [row["updates"] for row in rows_of(run)] == ["3", "6", "9"]
    warnings = [record.getMessage() for record in caplog.records if ": skipped" in record.getMessage()]
    assert len(warnings) == 1 and re.search(
        r"epoch 1, step \d: .*; image image\d contains the value 2e\+38", warnings[0]
    )
    for tensor in ps.Segmenter.load(run.last).state_dict().values():
        assert tensor.isfinite().all()


def test_statistics_that_overflow_are_undone(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not finite in 3 steps in a row"):
        run_on(scenes, tmp_path / "run", epochs=9, optimizer="sgd", lr=1e3, warmup_epochs=0, max_skipped_steps=3)
    kept = [*(tmp_path / "run").rglob("*.safetensors")]
    assert kept
    for file in kept:
        assert all(tensor.isfinite().all() for tensor in load_file(file).values())


def test_a_run_that_diverged_has_no_scores_and_says_so(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = segmentation_task.loss_by_image
    monkeypatch.setattr(segmentation_task, "loss_by_image", lambda *given: [sums * torch.nan for sums in real(*given)])
    with pytest.raises(TrainingError, match=r"after epoch \d, the best by val_miou, is not finite: .* optim.lr=0.003"):
        run_on(scenes, tmp_path / "run", epochs=2, optimizer="muon")
    assert "epoch 1: not scored, as the validation loss is not finite" in caplog.text
    with (tmp_path / "run" / "metrics.csv").open() as file:
        assert [row["val_miou"] for row in csv.DictReader(file)] == ["", ""]
    assert "metrics" not in read_bundle(tmp_path / "run" / "best.safetensors").facts
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_the_callers_state_of_torch_neither_changes_nor_matters(
    scenes: Path, trained: Run, tmp_path: Path, mode: Callable[[], AbstractContextManager[None]]
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with mode():
        run = run_on(scenes, tmp_path / "run", precision="fp32")
    assert torch.equal(torch.rand(3), expected)
    assert_same_bits(run.folder, trained.folder)


def test_weights_that_overflow_are_neither_validated_nor_saved(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1)
    components = SimpleNamespace(model=model, ema=None, config=load_config(overrides={"optim.optimizer": "sgd"}))
    require_finite(components, TrainingProgress())  # type: ignore[arg-type]
    torch.nn.init.constant_(model.weight, torch.inf)
    with pytest.raises(TrainingError, match=r"not finite after epoch 1, step 0: .* Lower optim.lr=0.02"):
        require_finite(components, TrainingProgress())  # type: ignore[arg-type]


def test_a_finished_run_makes_its_report_again(scenes: Path, tmp_path: Path) -> None:
    run = run_on(scenes, tmp_path / "run")
    run.report.unlink()
    again = run_on(scenes, tmp_path / "run", resume=True)
    assert again.report.exists()


def test_repeated_non_finite_steps_stop_the_run_and_name_the_images(tmp_path: Path) -> None:
    data = float_images(tmp_path / "data", broken=7)
    with pytest.raises(TrainingError, match=r"image image\d contains the value 2e\+38, with which 2 steps") as error:
        run_on(data, tmp_path / "run", epochs=3, batch_size=2, max_skipped_steps=2, clip_norm=1.0, **AS_THEY_ARE)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "run/checkpoint").glob("*.safetensors"))


def test_a_run_without_a_watched_value_ends_with_a_model(tmp_path: Path) -> None:
    data = float_images(tmp_path / "data", broken=7)
    run = run_on(data, tmp_path / "run", epochs=2, batch_size=2, watch="train_loss", precision="fp32", **AS_THEY_ARE)
    assert [row["train_loss"] for row in rows_of(run)] == ["", ""]
    assert run.best.is_file()
    assert run.report.is_file()


def test_early_stop_watches_any_value(scenes: Path, tmp_path: Path) -> None:
    run = run_on(scenes, tmp_path / "run", epochs=6, watch="train_loss", patience=1, lr=1e-12, ema=0.0)
    losses = [float(row["train_loss"]) for row in rows_of(run)]
    assert len(losses) < 6
    assert losses[-1] >= min(losses[:-1])
    assert read_bundle(run.best).facts["epoch"] == losses.index(min(losses)) + 1


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "schedule": "cosine", "lr": 0.01, "clip_norm": 1.0},
        {"freeze_encoder": True, "encoder_lr_factor": 0.1, "class_weights": "median_frequency"},
        {"accumulate": 2, "focal": 1.0, "dice": 0.0, "class_weights": "none"},
        {"image_head": True, "norm": "group", "merge": "concat", "ema": 0.0},
        {"crop": (48, 200), "scale": (0.3, 3.0), "finest_stride": 2, "coarsest_stride": 16},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_train(scenes: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    row = rows_of(run_on(scenes, tmp_path / "run", **settings))[0]
    assert float(row["train_loss"]) > 0
    assert row["skipped_steps"] == "0"


def test_fine_tuning_takes_the_bundles_network_and_says_what_matched(
    scenes: Path, trained: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pyramidseg")
    tuned = ps.train(scenes, out=tmp_path / "tuned", weights=str(trained.best), epochs=1, crop=64, lr=1e-9, ema=0.0)
    assert "encoder=test_resnet" in caplog.text
    assert "tensors loaded" in caplog.text
    before, after = ps.Segmenter.load(trained.best), ps.Segmenter.load(tuned.last)
    assert after.settings.pyramid_channels == 32
    torch.testing.assert_close(before.classifier.weight, after.classifier.weight, atol=1e-6, rtol=0)


def test_what_never_thaws_is_said(scenes: Path, tmp_path: Path) -> None:
    run = run_on(scenes, tmp_path / "run", freeze_stages=1, unfreeze_epoch=1)
    assert "optim.unfreeze_epoch=1 is not reached in 1 epochs" in run.report.read_text(encoding="utf-8")


def test_other_classes_need_reset_head(trained: Run, tmp_path: Path) -> None:
    data = float_images(tmp_path / "data", broken=0)
    other = ps.Dataset(data.source, data.layout, data.classes, data.masks, data.splits)
    grey = {"weights": str(trained.best), "epochs": 1, "crop": 64, "allow_leak": True}
    with pytest.raises(WeightsError, match="`reset_head=True`"):
        ps.train(other, out=tmp_path / "tuned", **grey)


def test_a_contradicting_encoder_is_refused(scenes: Path, trained: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a test_resnet"):
        ps.train(scenes, out=tmp_path / "tuned", weights=str(trained.best), encoder="resnet18")


def test_public_names_stay_functions() -> None:
    assert callable(ps.train)
    assert callable(ps.evaluate)
