"""Sections of benchmarks/speed in their reduced form, and the page of what they have found."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from benchmarks.speed import epoch, folder, goals, labels, memory, prediction, startup, training
from benchmarks.speed.__main__ import SECTIONS
from benchmarks.speed.folder import measure_folder
from benchmarks.speed.labels import measure_labels
from benchmarks.speed.models import Workshop, build_ours
from benchmarks.speed.results import Results, read_results
from benchmarks.speed.rows import Row, timed_rows
from benchmarks.speed.settings import Bench, Settings
from benchmarks.speed.startup import measure_startup
from benchmarks.speed.table import TITLES, page
from benchmarks.speed.training import OURS, PEER, TUNED

from pyramidseg.base.overrides import load_config
from pyramidseg.base.timing import Timing, alternate
from pyramidseg.model.cost import describe_cost
from pyramidseg.studies.hardware import Machine
from pyramidseg.studies.roofline import Roofline

CPU = torch.device("cpu")
MACHINE = Machine("a processor", 2, 2, "", {"torch": "2.15.0"})


def test_an_epoch_of_each_contestant_goes_through_the_same_images(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch, "CROP_PX", 64)
    workshop = Workshop(tmp_path, classes=8, side_px=64, on_cpu=True, say=print)
    said: list[object] = []
    settings = Settings(batch=4, rounds=1, camvid=str(scenes))
    roofline = Roofline({"fp32": 1e9, "bf16": 2e9})
    rows = epoch.measure_epoch(Bench(settings, CPU, roofline, workshop, said.append))
    assert [row.who for row in rows] == [PEER, TUNED, OURS]
    assert {row.images for row in rows} == {20}
    assert all(row.ms is not None and row.ms > 0 for row in rows)
    assert rows[-1].waiting_share is not None and 0 <= rows[-1].waiting_share <= 1
    assert set(rows[-1].times_as_fast) == {PEER, TUNED}
    assert all(row.share_of_floor is not None and row.share_of_floor > 0 for row in rows)


def test_without_a_dataset_epochs_are_of_made_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch, "CROP_PX", 64)
    monkeypatch.setattr(epoch, "MADE", 4)
    workshop = Workshop(tmp_path, classes=8, side_px=64, on_cpu=True, say=print)
    rows = epoch.measure_epoch(Bench(Settings(batch=2, rounds=1), CPU, Roofline({}), workshop, print))
    assert {row.images for row in rows} == {4}
    assert {row.group for row in rows} == {"synthetic scenes, resnet18, batch of 2, crops of 64x64"}
    reached = {goal.what: goal.reached for goal in goals.goals({"epoch": rows})}
    assert reached["CamVid epoch: share of the time spent waiting for data"] is None


def test_a_folder_is_held_against_the_floor_of_all_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summaries, predict_files = [], folder.predict_files
    monkeypatch.setattr(folder, "predict_files", lambda *given, **more: summaries.append(predict_files(*given, **more)))
    model = build_ours("test_resnet", 8, smoothing=True)
    model.save(tmp_path / "default.safetensors")
    files = SimpleNamespace(bundle=lambda which: tmp_path / f"{which}.safetensors")
    workshop = SimpleNamespace(files=lambda encoder: files)
    settings = Settings(encoders=("test_resnet",), side_px=64, rounds=1, images=3)
    rows = measure_folder(Bench(settings, CPU, Roofline({"fp32": 1e9, "bf16": 2e9}), workshop, str))  # type: ignore[arg-type]
    assert [row.who for row in rows[:3]] == [folder.BARE, folder.MANY, folder.FILES]
    floor_ms = 1000 * 3 * 2 * describe_cost(model, 64, 64).macs / 1e9
    for row in rows[:3]:
        assert row.images == 3 and row.ms is not None
        assert row.share_of_floor == pytest.approx(floor_ms / row.ms)
    assert len(summaries) >= 2
    assert {summary.unchanged for summary in summaries} == {0}  # all are predicted each time


@pytest.mark.usefixtures("forked_interpreters")
def test_the_memory_of_folders_is_that_of_a_process_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_ours("test_resnet", 3, smoothing=True).save(tmp_path / "default.safetensors")
    files = SimpleNamespace(bundle=lambda which: tmp_path / f"{which}.safetensors")
    workshop = SimpleNamespace(files=lambda encoder: files)
    monkeypatch.setattr(memory, "FOLDERS", {memory.FEW: 1, memory.MANY: 5})
    monkeypatch.setattr(memory, "FOLDER_ROUNDS", 1)
    settings = Settings(encoders=("test_resnet",))
    rows = memory.measure_folders(Bench(settings, CPU, Roofline({}), workshop, str))  # type: ignore[arg-type]
    assert [row.who for row in rows] == [memory.FEW, memory.MANY]
    assert all(row.peak_mb is not None and row.peak_mb > 0 for row in rows)


def test_label_maps_and_the_start_give_a_row_a_contestant(monkeypatch: pytest.MonkeyPatch) -> None:
    for section in (labels, startup):
        monkeypatch.setattr(section, "alternate", partial(alternate, warmup=0))
    bench = Bench(Settings(classes=3, side_px=64, rounds=1), CPU, Roofline({}), None, str)  # type: ignore[arg-type]
    rows = measure_labels(bench)
    assert [row.who for row in rows] == [labels.ARGMAX, labels.MAXIMUM, labels.OURS] * 4
    assert [row.who for row in measure_startup(bench)] == [startup.NOTHING, startup.HELP]


def test_steps_are_compiled_on_a_gpu_alone() -> None:
    assert training.contestants(CPU) == (PEER, TUNED, OURS, training.DEFAULT)
    assert training.contestants(torch.device("cuda")) == (
        PEER, TUNED, OURS, training.COMPILED, training.CUDA_GRAPHS, training.DEFAULT,
    )  # fmt: skip
    modes = [load_config(overrides=settings).train.compile for settings in training.OURS_SETTINGS.values()]
    assert modes == ["none", "default", "cuda_graphs", "none"]


def found_by_each_section() -> dict[str, list[Row]]:
    """Rows as the sections give them, where ours takes 1 second and the peers 4 and 2."""

    def timed(group: str, *who: str, images: int = 0, **more: Any) -> list[Row]:
        timings = {name: Timing((seconds,) * 3) for name, seconds in zip(who, (4.0, 2.0, 1.0), strict=False)}
        return timed_rows(group, timings, peers=who[:2], images=images, **more)

    own, group = f"{prediction.TITLES['ours']}, openvino fp32", prediction.group_name("resnet18", 1, 512)
    step = training.group_name(training.Task("resnet18", 19, 8, 256, "cpu"))
    many = labels.group_name(labels.MANY_CLASSES, 512, "contiguous")
    return {
        "prediction": [
            *timed(group, PEER, TUNED, own, images=1, shares={own: 0.75}, composed_shares={own: 0.5}),
            Row(group, "ours with smoothing, torch fp32", ms=1000.0),
            Row(group, "ours with smoothing, as written, torch fp32", ms=1500.0),
            Row(group, "ours with smoothing, as written, torch bf16", ms=9000.0),
        ],
        "memory": [
            Row("one image", PEER, peak_mb=1.0),
            Row(step, PEER, peak_mb=900.0),
            Row(step, OURS, peak_mb=450.0),
            Row("files", memory.FEW, peak_mb=200.0),
            Row("files", memory.MANY, peak_mb=150.0),
        ],
        "training": timed(step, PEER, TUNED, OURS, images=8, shares={OURS: 0.625}),
        "epoch": [Row("CamVid", OURS, ms=1000.0, images=367, waiting_share=0.0123)],
        "folder": timed("24 files", folder.FILES, folder.BARE, images=24),
        "labels": timed(many, labels.ARGMAX, labels.MAXIMUM, labels.OURS, images=1, notes={labels.OURS: "5 % mixed"}),
        "startup": timed("start-up", startup.HELP, startup.NOTHING),
    }


def test_the_page_shows_each_section_under_its_own_conditions(tmp_path: Path) -> None:
    results = Results(MACHINE)
    for number, (name, rows) in enumerate(found_by_each_section().items(), start=1):
        results.add(
            name,
            rows,
            Settings(rounds=number, camvid="/a/path" if name == "epoch" else None),
            Roofline({"fp32": number * 1e11}),
            seconds=1.0,
        )
    results.write(tmp_path)
    text = page(read_results(tmp_path, MACHINE))
    assert tuple(SECTIONS) == tuple(TITLES) == tuple(found_by_each_section())
    for number, (name, title) in enumerate(TITLES.items(), start=1):
        given = f"--only {name} --rounds {number}{' --camvid DATASET' if name == 'epoch' else ''}"
        conditions = f"{number} rounds; the convolution roofline: {number}00 GFLOP/s in fp32."
        assert f"## {title}\n\n`python -m benchmarks.speed --out DIR {given}`: {conditions}\n\n| " in text
    assert "/a/path" not in text
    for line in (
        "| ours, openvino fp32 | 1000 | 1.0 | 75 % | 50 % | 2.00 | 4.00 |",
        "| SMP as users run it | 900 |",
        "| ours | 1000 | 8.0 | 62 % | 2.00 | 4.00 |",
        "| ours | 1000 | 367.0 | 1.23 % |",
        "| bare model | 2000 | 12.0 |  | 2.00 |",
        "| ours | 1000 | 1.0 | 5 % mixed | 2.00 | 4.00 |",
        "| pyramidseg --help | 4000 | 0.50 |  |",
    ):
        assert line in text


def test_the_page_sets_what_was_reached_beside_what_was_asked(tmp_path: Path) -> None:
    reached = {goal.what: goal.reached for goal in goals.goals(found_by_each_section()) if goal.reached is not None}
    assert reached == {
        f"resnet18, fp32, one image: times as fast as {PEER}": 4.0,
        "resnet18, fp32, one image: the convolutions' floor as a share of the time": 0.75,
        "resnet18 with smoothing, one image: times as fast as the network as written": 1.5,
        f"training step: times as fast as {PEER}": 4.0,
        f"training step: times as fast as {TUNED}": 2.0,
        f"training step: memory over that of {PEER}": 0.5,
        f"{memory.MANY}: memory over that of {memory.FEW}": 0.75,
        "CamVid epoch: share of the time spent waiting for data": 0.0123,
        "folder of images: share of the bare model's rate, the lesser of both precisions": 0.5,
        "label map of 150 classes: times as fast as interpolate-then-argmax": 4.0,
        "pyramidseg --help: seconds": 4.0,
    }
    text = page(Results(MACHINE))
    assert text.count("| not measured |") == len(goals.goals({}))
    assert not any(title in text for title in TITLES.values())


def test_the_peer_has_the_mixed_precision_of_ours_where_bf16_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "has_fast_bf16", lambda device: False)
    cuda = torch.device("cuda")
    monkeypatch.setattr(training, "resolve_precision", lambda precision, device: "fp32")
    found = {who: training.precision_of(who, cuda) for who in training.contestants(cuda)}
    assert found == {PEER: "fp32", TUNED: "fp16", OURS: "fp16", training.COMPILED: "fp16",
                     training.CUDA_GRAPHS: "fp16", training.DEFAULT: "fp32"}  # fmt: skip
    assert training.precision_notes(CPU) == {} != training.precision_notes(cuda)


def test_the_peer_learns_in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scaler may skip the first steps, whose gradients overflow."""
    losses, cross_entropy = [], torch.nn.functional.cross_entropy

    def kept(*given: Any, **more: Any) -> torch.Tensor:
        losses.append(cross_entropy(*given, **more))
        return losses[-1]

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", kept)
    monkeypatch.setattr(training, "mixed_precision", lambda device: "fp16")
    monkeypatch.setattr(training, "build_peer", lambda encoder, classes: torch.nn.Conv2d(3, classes, 1))
    task = training.Task("resnet18", 8, 2, 64, "cpu")
    step, batch = training.peer_step(task, is_tuned=True), training.made_batch(task)
    for _ in range(20):
        step(batch)
    assert losses[-1] < losses[0]


def test_a_gpu_is_compared_as_written_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "has_fast_bf16", lambda device: True)
    networks = {each.network for each in prediction.contestants(torch.device("cuda"), ("onnxruntime",))}
    assert networks == {"smp", "ours-as-written", "imported", "as-written"}
    assert {each.network for each in prediction.contestants(CPU, ())} == {*networks, "ours", "default"}
    who = f"{prediction.TITLES['ours-as-written']}, torch-compiled bf16"
    row = Row(prediction.group_name("resnet18", 1, 512), who, ms=1.0, times_as_fast={PEER: 4.0}, share_of_floor=0.5)
    found = {goal.what: goal.reached for goal in goals.goals({"prediction": [row]})}
    assert found[f"resnet18, bf16, one image: times as fast as {PEER}"] == 4.0
    assert not any("network as written" in what for what in found)
