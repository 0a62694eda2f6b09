"""`pyramidseg benchmark` on a tiny model: what it prints and writes, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch

from pyramidseg.base.device import has_fast_bf16
from pyramidseg.base.errors import ConfigError, DeviceError, TrainingError
from pyramidseg.cli.main import main
from pyramidseg.export.export_model import Export
from pyramidseg.model.cost import describe_cost
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.studies import benchmark_model as measuring
from pyramidseg.studies.benchmark_model import (
    backend_names,
    default_size,
    find_candidates,
    reason_for_auto,
)
from pyramidseg.studies.roofline import Roofline
from support import tiny_segmenter

CPU = torch.device("cpu")
PRECISIONS = ["fp32", "bf16"] if has_fast_bf16(CPU) else ["fp32"]


@pytest.fixture(scope="module")
def model() -> Segmenter:
    torch.manual_seed(0)
    return tiny_segmenter(num_classes=5)


@pytest.fixture(scope="module")
def bundle(model: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "best.safetensors"
    model.save(path, facts={"crop": [48, 80]})
    return path


@pytest.fixture(scope="module")
def candidates(bundle: Path, tmp_path_factory: pytest.TempPathFactory):
    """The bundle in torch, and exported to ONNX for it."""
    exports = tmp_path_factory.mktemp("exports")
    return find_candidates(bundle, ["torch", "onnxruntime"], CPU, exports)[0]


def run(*arguments: object) -> int:
    return main(["benchmark", *map(str, arguments), "--device", "cpu"])


@pytest.mark.usefixtures("forked_interpreters")
def test_every_layer_is_measured_as_written(bundle: Path, candidates, tmp_path: Path, monkeypatch) -> None:
    roofline = Roofline(dict.fromkeys(PRECISIONS, 1e11))
    monkeypatch.setattr(measuring, "measure_roofline", lambda device, rounds: roofline)
    how = {"size": (64, 64), "batch_size": 1, "rounds": 1, "device": "cpu", "as_written": True}
    result = measuring.benchmark_model(bundle, backends=["torch"], **how)
    assert "every layer of the decoder as written" in str(result.conditions)
    assert all(row.peak_bytes for row in result.rows)
    opened = []
    make = measuring.make_backend
    monkeypatch.setattr(measuring, "make_backend", lambda *given, **how: opened.append(how) or make(*given, **how))
    monkeypatch.setattr(measuring, "export_model", lambda *_, **how: opened.append(how) or Export(exported, None, None))
    exported = candidates[-1].file
    find_candidates(bundle, ["torch", "onnxruntime"], CPU, tmp_path, as_written=True)
    assert [how["as_written"] for how in opened] == [*(True for _ in PRECISIONS), True, False]
    with pytest.raises(ConfigError, match=r"`as_written`: .* computes what it was exported with"):
        measuring.benchmark_model(candidates[-1].file, **how)


@pytest.mark.usefixtures("forked_interpreters")
def test_measures_prints_and_writes(
    bundle: Path,
    model: Segmenter,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roofline = Roofline(dict.fromkeys(PRECISIONS, 1e11))  # test_roofline measures it, which takes half a minute
    monkeypatch.setattr(measuring, "measure_roofline", lambda device, rounds: roofline)
    out = tmp_path / "out"
    arguments = (bundle, "--rounds", "1", "--size", "64x64", "--batch-size", "2", "--backends", "torch", "--out", out)
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    for words in ("best.safetensors: test_resnet, 5 classes, 64x64", "GFLOP/s in fp32", "torch fp32", "batch of 2"):
        assert words in said
    assert "auto selects torch: no exported model next to the bundle" in said
    assert f"file: {out / 'benchmark.json'}" in said

    content = json.loads((out / "benchmark.json").read_text())
    assert str(bundle.parent) not in json.dumps(content)
    conditions = content["conditions"]
    assert conditions["macs"] == describe_cost(model, 64, 64).macs
    assert [conditions[name] for name in ("height", "width", "batch_size", "rounds")] == [64, 64, 2, 1]
    assert set(conditions["machine"]) == {"processor", "processors", "threads", "accelerator", "versions"}
    assert [row["precision"] for row in content["rows"]] == PRECISIONS
    assert content["rows"][0]["speedup"] == 1
    for row in content["rows"]:
        floor_ms = 2000 * conditions["macs"] / conditions["roofline"]["flop_per_second"][row["precision"]]
        assert row["latency_share"] == pytest.approx(floor_ms / row["latency_ms"], rel=0.01)
        assert row["throughput_share"] == pytest.approx(floor_ms * row["images_per_second"] / 1000, rel=0.01)
        assert row["peak_bytes"] > bundle.stat().st_size

    assert run(*arguments) == 2
    assert "already holds benchmark.json" in capsys.readouterr().err


def test_a_bundle_is_exported_for_the_measurement(candidates, bundle: Path) -> None:
    names = [(candidate.backend.name, candidate.backend.precision) for candidate in candidates]
    assert names == [*(("torch", precision) for precision in PRECISIONS), ("onnxruntime", "fp32")]
    assert list(bundle.parent.iterdir()) == [bundle]


def test_an_exported_file_runs_in_its_own_runtime(candidates, tmp_path: Path) -> None:
    file = candidates[-1].file
    assert backend_names(file, CPU) == ("onnxruntime",)
    assert default_size(file) == (512, 512)
    (only,), left_out = find_candidates(file, None, CPU, tmp_path)
    assert (only.backend.name, only.file, left_out) == ("onnxruntime", file, {})
    assert reason_for_auto(file, only.backend) == "the runtime in which the export was checked"
    with pytest.raises(ConfigError, match="runs in onnxruntime"):
        find_candidates(file, ["torch"], CPU, tmp_path)


def test_the_size_is_that_of_the_crops_in_training(bundle: Path, model: Segmenter, tmp_path: Path) -> None:
    assert default_size(bundle) == (48, 80)
    model.save(tmp_path / "other.safetensors")
    assert default_size(tmp_path / "other.safetensors") == (512, 512)


def test_bundles_have_the_backends_that_suit_the_device(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_names(bundle, CPU) == ("torch", "openvino", "onnxruntime")
    assert backend_names(bundle, torch.device("cuda")) == ("torch", "torch-compiled", "onnxruntime")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert backend_names(bundle, CPU) == ("torch",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backends", "opnvino"), "--backends: 'opnvino' is unknown; did you mean 'openvino'?"),
        (("--backends", ","), "--backends: ',' is not a list of names; separate them by commas"),
        (("--size", "big"), "--size: 'big' is not a size; write height x width"),
        (("--rounds", "0"), "--rounds 0: must be at least 1"),
        (("--batch-size", "0"), "--batch-size 0: must be at least 1"),
    ],
)
def test_errors_are_one_line(
    bundle: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert run(bundle, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_timings_are_reported_even_if_memory_cannot_be_measured(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file, **options):
        raise TrainingError(f"{file}: measuring its memory at 64x64 failed: Killed")

    monkeypatch.setattr(measuring, "peak_memory", fail)
    monkeypatch.setattr(measuring, "measure_roofline", lambda device, rounds: Roofline({"fp32": 1e9}))
    assert run(bundle, "--rounds", "1", "--size", "64x64", "--batch-size", "2", "--backends", "torch") == 0
    said = capsys.readouterr().out
    assert "unknown" in said
    assert "torch fp32: best.safetensors: measuring its memory at 64x64 failed: Killed" in said


def test_a_backend_of_another_file_is_refused_before_anything_is_measured(
    candidates, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "measure_roofline", None)
    file = candidates[-1].file
    assert run(file, "--backends", "onnxruntime,torch") == 2
    assert f"--backend torch: {file} runs in onnxruntime" in capsys.readouterr().err


def test_a_device_that_a_runtime_lacks_is_refused_before_anything_is_exported(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "export_for", None)
    with pytest.raises(DeviceError, match="`device=cuda`: OpenVINO runs on cpu"):
        find_candidates(bundle, ["openvino"], torch.device("cuda"), tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 512}, r"`size=512`: must be height and width, such as \(512, 512\)"),
        ({"size": (64,)}, r"`size=\(64,\)`: must be height and width"),
        ({"size": (0, 64)}, r"`size=\(0, 64\)`: must be at least 1"),
        ({"backends": "torch"}, r"`backends='torch'`: must be a list of names, such as \['torch'\]"),
    ],
)
def test_values_of_a_wrong_type_are_rejected(bundle: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        measuring.benchmark_model(bundle, **options)


def test_an_absent_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "absent.safetensors") == 2
    assert "absent.safetensors: no such file" in capsys.readouterr().err
