"""`pyramidseg export` from end to end: its files, its errors, and files that predict something else."""

import copy
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.export import Dim

from pyramidseg.backends import openvino_backend
from pyramidseg.backends.metadata import COARSE, LOGITS
from pyramidseg.backends.onnx_backend import OnnxRuntimeBackend
from pyramidseg.backends.openvino_backend import OpenVinoBackend
from pyramidseg.backends.torch_export_backend import ExportedTorchBackend
from pyramidseg.cli.main import main
from pyramidseg.evaluation.scoring import evaluate
from pyramidseg.export import export_model as exporting
from pyramidseg.export import graph, parity
from pyramidseg.export.parity import check_parity
from pyramidseg.export.samples import synthetic_samples
from pyramidseg.model.segmenter import Segmenter

BOTH = (LOGITS, COARSE)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def damage_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, the exporter loses weights on the way."""
    capture = exporting.capture  # which remembers graphs

    def lose(segmenter, **options):
        program = copy.deepcopy(capture(segmenter, **options))
        next(tensor for name, tensor in program.state_dict.items() if name.endswith("classifier.weight")).data[0] = 0
        return program

    monkeypatch.setattr(exporting, "capture", lose)


def test_a_checked_file_goes_straight_into_predict_and_evaluate(
    bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "out"
    assert run("export", bundle, "--format", "onnx", "--check", scenes, "--out", out) == 0
    said = capsys.readouterr().out
    for words in ("to onnx fp32, for uint8 images", "checking on 5 images", "split val", "mIoU"):
        assert words in said
    assert files_in(out) == ["best.onnx", "best.onnx.parity.json"]

    report = json.loads((out / "best.onnx.parity.json").read_text())
    assert report["file"] == "best.onnx"
    assert report["parity"]["passed"] is True
    assert report["parity"]["pixels"] > 5 * 72 * 96
    assert OnnxRuntimeBackend.read_metadata(out / "best.onnx").parity == report["parity"]

    image = next((scenes / "val/images").iterdir())
    assert run("predict", out / "best.onnx", image, "--out", tmp_path / "theirs", "--device", "cpu") == 0
    assert "backend onnxruntime fp32 on cpu: best.onnx" in capsys.readouterr().out
    assert run("predict", bundle, image, "--out", tmp_path / "ours", "--device", "cpu") == 0
    labels = [cv2.imread(str(tmp_path / name / f"{image.stem}.png"), -1) for name in ("theirs", "ours")]
    assert (labels[0] == labels[1]).mean() > 0.999

    capsys.readouterr()
    scores = []
    for model, folder in ((out / "best.onnx", "a"), (bundle, "b")):
        assert run("evaluate", model, scenes, "--out", tmp_path / folder, "--device", "cpu") == 0
        scores.append(json.loads((tmp_path / folder / "metrics.json").read_text())["miou"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert "backend onnxruntime" in capsys.readouterr().out


def test_an_export_beside_a_model_of_16_bit_images_takes_them(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """11 bits of 16, as satellites have them: mean and deviation are the dataset's, and in [0, 1]."""
    model = Segmenter.load(bundle)
    model.set_normalization((0.015, 0.014, 0.013), (0.008, 0.007, 0.006))
    own = tmp_path / "own.safetensors"
    model.save(own)
    image = tmp_path / "satellite.tif"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 2048, (50, 70, 3), np.uint16))
    assert run("export", own, "--format", "onnx") == 0
    assert "to onnx fp32, for float32 images" in capsys.readouterr().out
    for backend in ("auto", "torch"):
        assert run("predict", own, image, "--out", tmp_path / backend, "--backend", backend, "--device", "cpu") == 0
    assert "backend onnxruntime fp32 on cpu: own.onnx\n" in capsys.readouterr().out
    labels = [cv2.imread(str(tmp_path / backend / "satellite.png"), -1) for backend in ("auto", "torch")]
    assert (labels[0] == labels[1]).mean() > 0.999
    assert len(np.unique(labels[1])) > 1


def test_a_file_that_predicts_something_else_is_not_left(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage_exports(monkeypatch)
    out = tmp_path / "new" / "out"
    assert run("export", bundle, "--format", "torch", "--out", out) == 3
    shown = capsys.readouterr()
    assert "same label" in shown.out
    assert "nothing was written: " in shown.err
    assert "of the pixels keep their label, 99.99% are needed" in shown.err
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_outlives_one_that_fails(
    bundle: Path, exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in exported("torch").parent.iterdir():
        shutil.copy(file, tmp_path / file.name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    damage_exports(monkeypatch)
    assert run("export", bundle, "--format", "torch", "--out", tmp_path) == 3
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_earlier_export_is_replaced_and_a_foreign_file_is_not(
    bundle: Path, exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(exported("onnx"), tmp_path / "best.onnx")
    assert run("export", bundle, "--format", "onnx", "--precision", "fp32", "--out", tmp_path) == 0
    (tmp_path / "best.onnx").write_bytes(b"a thesis")
    capsys.readouterr()
    assert run("export", bundle, "--format", "onnx", "--out", tmp_path) == 2
    assert "best.onnx: exists and was not exported by pyramidseg" in capsys.readouterr().err
    assert (tmp_path / "best.onnx").read_bytes() == b"a thesis"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "onxx"], "--format onxx: unknown format; did you mean 'onnx'"),
        (["--format", "onnx", "--precision", "fp8"], "--precision fp8: choose fp32 or fp16 or int8 for onnx\n"),
        (["--format", "onnx", "--device", "bad"], "--device bad: this ONNX Runtime runs on cpu only"),
        (["--format", "torch", "--device", "bad"], "--device bad: unknown device"),
        (
            ["--format", "onnx", "--precision", "bf16"],
            "choose fp32 or fp16 or int8 for onnx, or --format openvino or --format torch",
        ),
        (["--format", "onnx", "--input", "int8"], "--input int8: unknown type; did you mean 'uint8'"),
        (["--format", "onnx", "--check", "nowhere"], "nowhere: no such file or folder"),
        (["--format", "onnx", "--split", "test"], "--split test: has no effect without --check"),
        (["--format", "onnx", "data.bands=[1,2,3]"], "data.bands=(1, 2, 3): has no effect without --check"),
        ([], "--format"),
    ],
)
def test_unsupported_requests_are_one_line_errors(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run("export", bundle, "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_as_out_is_refused_before_a_folder_of_its_name_is_made(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for format, name, words in (("onnx", "x.onnx", "give a folder, such as"), ("web", "x.htm", "the suffix .html")):
        assert run("export", bundle, "--format", format, "--out", tmp_path / name) == 2
        error = capsys.readouterr().err
        assert f"{name}: give" in error
        assert words in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_not_exported_again(exported, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", exported("onnx"), "--format", "torch") == 2
    assert "best.onnx: is already an export; pass the bundle" in capsys.readouterr().err


def test_a_foreign_report_is_never_replaced(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "best.onnx.parity.json"
    report.write_text('{"mine": 1}')
    assert run("export", bundle, "--format", "onnx", "--out", tmp_path) == 2
    assert "best.onnx.parity.json: exists and was not written by pyramidseg" in capsys.readouterr().err
    assert report.read_text() == '{"mine": 1}'


def test_images_of_another_type_are_refused_before_the_graph_is_made(
    bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "capture", None)
    arguments = ("--format", "onnx", "--input", "uint16", "--check", scenes, "--out", tmp_path / "out")
    assert run("export", bundle, *arguments) == 2
    said = capsys.readouterr().err
    assert f"--input uint16: the images of --check {scenes} need uint8, or float32, which takes all types" in said
    assert ".part" not in said


@pytest.mark.parametrize("spoils", ["prediction", "batches"])
def test_a_file_that_fails_as_it_is_predicted_with_is_not_left(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, spoils: str
) -> None:
    """In its pruned part, or for all but the first image of a batch, where whole images one by one are right."""
    run_file = ExportedTorchBackend.run

    def broken(self, images):
        found = run_file(self, images)
        if spoils == "prediction" and len(found) == 1:
            return {COARSE: -found[COARSE]}
        if spoils == "batches" and len(images) == 3:
            return {name: logits[[0, 0, 0]] for name, logits in found.items()}
        return found

    monkeypatch.setattr(ExportedTorchBackend, "run", broken)
    monkeypatch.setattr(parity, "MIN_AGREEMENT", 0.1)  # as if there were many whole images beside
    assert run("export", bundle, "--format", "torch", "--out", tmp_path / "out") == 3
    assert "of the clear pixels of odd sizes and batches keep their label" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["openvino", "torch"])
def test_bf16_is_checked_in_bf16_or_refused(bundle: Path, exported, tmp_path: Path, format: str) -> None:
    can = format == "torch" or OpenVinoBackend(exported("openvino"), precision="bf16", device="cpu").precision == "bf16"
    status = run("export", bundle, "--format", format, "--precision", "bf16", "--out", tmp_path)
    assert status == (0 if can else 2)
    if can:
        (report,) = tmp_path.glob("best-bf16.*.parity.json")
        checked = json.loads(report.read_text())["parity"]
        assert (checked["precision"], checked["passed"]) == ("bf16", True)
        assert " bf16 on cpu" in checked["runtime"]
        assert checked["agreement"] < 1 or checked["largest_difference"] > 1e-3 * checked["deviation"]


def test_bf16_is_refused_where_openvino_would_compute_in_fp32(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does by itself on processors without bf16; known before the graph is made."""
    monkeypatch.setattr(exporting, "capture", None)
    monkeypatch.setattr(openvino_backend, "_openvino_type", lambda precision, core, device: "f32")
    assert run("export", bundle, "--format", "openvino", "--precision", "bf16", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "--precision bf16: openvino computes in fp32 on this cpu, so bf16 cannot be checked here" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_torch_is_timed_on_the_device_that_computes(bundle: Path, exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where the file's logits are: ONNX Runtime gives those of a GPU on the CPU."""
    model = Segmenter.load(bundle)
    whole, pruned = (OnnxRuntimeBackend(exported("onnx"), device="cpu", outputs=names) for names in (BOTH, (COARSE,)))
    whole.compute_device = torch.device("cuda:1")
    monkeypatch.setattr(parity, "TorchBackend", lambda segmenter, device: f"torch fp32 on {device}")
    monkeypatch.setattr(parity, "_latencies_ms", lambda model, file, image: (2.0, 1.0))
    found = check_parity(whole, model, synthetic_samples(model, "uint8"), predicting=pruned)
    assert found.latency_against == "torch fp32 on cuda:1"


def test_an_encoder_that_cannot_be_traced_is_reported_with_the_reason(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyramidseg.model.encoder import Encoder

    monkeypatch.setattr(exporting, "capture", graph.capture)
    forward = Encoder.forward

    def by_content(self, image):
        return forward(self, image if image.sum() > 0 else -image)

    monkeypatch.setattr(Encoder, "forward", by_content)
    assert run("export", bundle, "--format", "torch", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "encoder test_resnet: cannot be exported for images of any size: " in error
    assert "use the bundle in torch" in error
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_run_at_some_size_is_not_left(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As older versions of torch make them of some networks: for sides above 32, because the example's were."""
    monkeypatch.setattr(exporting, "capture", graph.capture)
    monkeypatch.setattr(graph, "SIZES", (lambda: {"images": {0: Dim.DYNAMIC, 2: Dim("height", min=33)}},))
    assert run("export", bundle, "--format", "torch", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "encoder test_resnet: cannot be exported to torch: for images of shape (1, 3, 1, 1) the file gives" in error
    assert list(tmp_path.iterdir()) == []


def test_where_torch_cannot_leave_sizes_open_they_vary(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its older versions, and as attention in windows."""
    monkeypatch.setattr(exporting, "capture", graph.capture)
    monkeypatch.delattr("torch.fx.experimental.dynamic_spec.ShapeVar")
    assert run("export", bundle, "--format", "torch", "--out", tmp_path) == 0


def test_files_for_bytes_serve_flips_and_scales(exported, bundle: Path, scenes: Path) -> None:
    theirs, ours = (
        evaluate(model, scenes, device="cpu", backend=backend, tta=True).confusion
        for model, backend in ((exported("torch"), "auto"), (bundle, "torch"))
    )
    assert (theirs - ours).abs().sum() <= 0.002 * ours.sum()


def test_words_in_the_metadata_are_those_that_other_programs_need(exported, bundle: Path) -> None:
    import onnx

    content = onnx.load(exported("onnx"))
    texts = {entry.key: entry.value for entry in content.metadata_props}
    assert json.loads(texts["classes"])["names"][0] == "sky"
    assert json.loads(texts["input"])["shape"] == ["batch", 3, "height", "width"]
    assert json.loads(texts["parity"])["passed"] is True
    (images,) = content.graph.input
    assert [size.dim_param or size.dim_value for size in images.type.tensor_type.shape.dim] == [
        "batch", 3, "height", "width",
    ]  # fmt: skip
    assert [output.name for output in content.graph.output] == ["logits", "coarse_logits"]
    assert not any(node.metadata_props for node in content.graph.node)
    assert str(bundle.parent) not in str(content.metadata_props)
    assert not any(tensor.HasField("data_location") and tensor.data_location for tensor in content.graph.initializer)


@pytest.fixture(autouse=True)
def _no_gradients_are_left_on() -> None:
    assert torch.is_grad_enabled()
