"""int8 exports: how they are made, the gate, what stays in float, the processors that they are for, who uses them."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from made_geo import box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.backends import make_backend
from pyramidseg.backends.onnx_backend import OnnxRuntimeBackend
from pyramidseg.backends.openvino_backend import OpenVinoBackend
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError, DeviceError, WeightsError
from pyramidseg.cli.main import main
from pyramidseg.evaluation.scoring import evaluate
from pyramidseg.export import export_model as export_module
from pyramidseg.export import parity, quantization
from pyramidseg.export.export_model import export_model
from pyramidseg.export.quantization import Calibration
from pyramidseg.images.scene_windows import SceneWindow
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.studies import benchmark_model
from pyramidseg.studies.benchmark_model import find_candidates

FORMATS = {"onnx": OnnxRuntimeBackend, "openvino": OpenVinoBackend}


LENIENT = {
    "MIN_SPEEDUP": 0.0,
    "MIN_CLEAR_AGREEMENT_INT8": 0.9,
    "LARGEST_MIOU_CHANGE_INT8": 0.2,
    "LARGEST_CLASS_CHANGE": 0.2,
}
"""So tiny a network with random weights need not be faster in int8, and reacts to rounding as no trained one does."""


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LENIENT.items():
        monkeypatch.setattr(parity, name, value)
    monkeypatch.setattr(quantization, "TIMED_ROUNDS", 1)


def export(bundle: Path, scenes: Path, out: Path, format: str = "onnx", **options: object):
    return export_model(
        bundle, format=format, precision="int8", calibrate=scenes, calibration_images=6, out=out, **options
    )


@pytest.fixture(scope="module")
def made(bundle: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle and its int8 exports; not to be changed."""
    folder = tmp_path_factory.mktemp("int8")
    shutil.copy(bundle, folder / "best.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LENIENT.items():
            patch.setattr(parity, name, value)
        patch.setattr(quantization, "TIMED_ROUNDS", 1)
        for format in FORMATS:
            assert export(folder / "best.safetensors", scenes, folder, format).path is not None
    return folder


def weights_of(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_the_file_names_how_it_was_made_and_is_within_the_gate(made: Path, scenes: Path) -> None:
    train = {path.stem for path in (scenes / "train/images").iterdir()}
    for suffix, backend in ((".onnx", OnnxRuntimeBackend), (".xml", OpenVinoBackend)):
        metadata = backend.read_metadata(made / f"best-int8{suffix}")
        found = metadata.quantization
        assert metadata.precision == "int8"
        assert found.quantizer == f"onnxruntime {__import__('onnxruntime').__version__}"
        assert (found.target, found.seed, found.float_blocks) == ("any", 0, ())
        assert len(set(found.images)) == 6
        assert {Path(image).name for image in found.images} <= train
        written = json.loads((made / f"best-int8{suffix}.parity.json").read_text())
        assert written["quantization"] == {**dataclasses.asdict(found), "images": [*found.images], "float_blocks": []}
        report = written["parity"]
        assert report["clear_agreement"] >= 0.9
        assert report["speedup_against"].startswith(backend.name)
        assert report["classes"]["sky"][0] == pytest.approx(report["classes"]["sky"][1], abs=0.2)


def test_describe_names_how_it_was_made(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(made.glob("*-int8.onnx"))
    metadata = OnnxRuntimeBackend.read_metadata(file)
    assert main(["describe", str(file), "--size", "64"]) == 0
    said = capsys.readouterr().out
    assert f"{file}: int8 export of pyramidseg" in said
    assert f"quantised by {metadata.quantization.quantizer} for any processors, with 6 images" in said
    for words in ("blocks left in float: ", "mIoU of the check: ", "smoothing, stride 4", metadata.source["sha256"]):
        assert words in said
    assert main(["describe", str(file), "encoder=resnet18"]) == 2
    assert "a file has its own settings" in capsys.readouterr().err


def test_weights_have_seven_bits_and_a_scale_per_channel_and_the_classifier_is_float(made: Path) -> None:
    weights = weights_of(made / "best-int8.onnx")
    eight_bit = {name: values for name, values in weights.items() if values.dtype == np.int8 and values.ndim == 4}
    assert len(eight_bit) > 10
    assert all(np.abs(values).max() <= 64 for values in eight_bit.values())  # 2 * 255 * 64 < 2**15
    assert all(len(weights[name.replace("_quantized", "_scale")]) == len(values) for name, values in eight_bit.items())
    assert weights["model.classifier.weight"].dtype == np.float32
    assert not any("classifier" in name for name in eight_bit)


def test_the_decoder_is_quantised_as_written_and_has_to_be_faster_than_the_composed_one(
    bundle: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, capture, to_onnx = {}, export_module.capture, export_module.onnx_format.to_onnx

    def traced(*arguments: object, as_written: bool, **options: object):
        program = capture(*arguments, as_written=as_written, **options)
        made[id(program)] = as_written, program
        return program

    def converted(program: object, **options: object):
        content = to_onnx(program, **options)
        content.producer_name = "as written" if made[id(program)][0] else "composed"
        return content

    monkeypatch.setattr(export_module, "capture", traced)
    monkeypatch.setattr(export_module.onnx_format, "to_onnx", converted)
    producers = []

    def write(self: quantization.Quantizer, staged: Path, metadata: object, floats: onnx.ModelProto, **_: object):
        producers.extend((self.graph.producer_name, floats.producer_name))
        raise ConfigError("enough was seen")

    monkeypatch.setattr(quantization.Quantizer, "write_until_close", write)
    with pytest.raises(ConfigError, match="enough"):
        export(bundle, scenes, tmp_path)
    assert producers == ["as written", "composed"]


def test_the_most_harmful_block_is_found_with_one_computation_in_float(monkeypatch: pytest.MonkeyPatch) -> None:
    harm = {"a": 1.0, "b": 2.0, "c": 8.0, "d": 1.0, "e": 3.0}
    computed = []

    def logits(content: onnx.ModelProto) -> list[np.ndarray]:
        computed.append(content.producer_name)
        in_float = harm if content.producer_name == "float" else content.producer_name
        return [np.array([sum(value for block, value in harm.items() if block not in in_float) ** 0.5])]

    quantizer = object.__new__(quantization.Quantizer)
    quantizer.graph, quantizer.blocks = onnx.ModelProto(producer_name="float"), {block: [] for block in harm}
    monkeypatch.setattr(quantizer, "_logits", logits)
    monkeypatch.setattr(quantizer, "quantize", lambda blocks: onnx.ModelProto(producer_name="".join(blocks)))
    assert quantizer.most_harmful([]) == ("c", pytest.approx(8 / 15))
    assert quantizer.most_harmful(["c"]) == ("e", pytest.approx(3 / 7))
    assert computed.count("float") == 1


def test_for_vnni_weights_have_eight_bits_and_other_processors_refuse_them(
    bundle: Path, made: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cpu.get_capabilities().get("avx512_vnni"):
        path = export(bundle, scenes, tmp_path, target="vnni").path
        found = [values for values in weights_of(path).values() if values.dtype == np.int8]
        assert max(np.abs(values.astype(int)).max() for values in found) == 127
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "Old", "avx2": True})
        with pytest.raises(DeviceError, match=r"with `target=vnni`.*\(Old\) does not have avx512_vnni or avx_vnni"):
            make_backend(path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    with pytest.raises(DeviceError, match="`target=avx2`, and this processor"):
        export(bundle, scenes, tmp_path, target="avx2")
    assert make_backend(made / "best-int8.onnx").precision == "int8"  # for any


def test_predict_evaluate_and_auto_take_it_only_when_asked(
    made: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = made / "best.safetensors"
    image = next((scenes / "val/images").iterdir())
    for number, (options, words) in enumerate((
        ((), "backend torch fp32 on cpu"),
        (("--precision", "int8"), "backend openvino int8 on cpu: best-int8.xml"),
        (("--precision", "int8", "--backend", "onnxruntime"), "backend onnxruntime int8 on cpu: best-int8.onnx"),
    )):  # fmt: skip
        arguments = ["predict", str(model), str(image), "--out", str(tmp_path / str(number)), "--device", "cpu"]
        assert main([*arguments, *options]) == 0
        assert words in capsys.readouterr().out
    scores = [evaluate(model, scenes, device="cpu", precision=precision).metrics.miou for precision in ("fp32", "int8")]
    assert scores[1] == pytest.approx(scores[0], abs=0.2)


def test_benchmark_measures_it_and_a_bundles(
    made: Path, exported: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(model: Path, names: list[str] | None) -> list[str]:
        found, left_out = find_candidates(model, names, torch.device("cpu"), tmp_path)
        assert left_out == {}
        return [f"{candidate.backend.name} {candidate.backend.precision}" for candidate in found]

    assert measured(made / "best-int8.xml", None) == ["openvino int8"]
    assert measured(made / "best-int8.onnx", None) == ["onnxruntime int8"]
    monkeypatch.setattr(benchmark_model, "export_for", lambda backend, *_, **__: exported(backend.format))
    assert measured(made / "best.safetensors", ["torch", "onnxruntime"])[-2:] == [
        "onnxruntime fp32",
        "onnxruntime int8",
    ]


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("best.safetensors", {"precision": "int8", "backend": "torch"}, "runs? in openvino or onnxruntime"),
        ("best.safetensors", {"precision": "int8", "as_written": True}, "leave `backend='torch'` and `as_written` out"),
        ("best-int8.xml", {"precision": "fp32"}, "was exported in int8, which is fixed in int8 files"),
        ("best-int8.xml", {"precision": "bf16"}, "was exported in int8, which is fixed in int8 files"),
        ("best-int8.onnx", {"precision": "fp32"}, "was exported in int8"),
    ],
)
def test_other_precisions_and_backends_are_refused(made: Path, name: str, options: dict, words: str) -> None:
    backend = options.pop("backend", "auto")
    with pytest.raises(ConfigError, match=words):
        make_backend(made / name, backend, **options)


def test_without_an_int8_export_the_command_that_makes_it_is_named(made: Path, bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(bundle, tmp_path / "best.safetensors"))
    with pytest.raises(ConfigError, match=r"export .*best.safetensors --format openvino --precision int8 --calibrate"):
        make_backend(copy, precision="int8")
    other = Segmenter.load(copy)
    torch.nn.init.ones_(other.classifier.bias)
    other.save(tmp_path / "best.safetensors")
    shutil.copy(made / "best-int8.onnx", tmp_path)
    with pytest.raises(WeightsError, match="not exported from the present content"):
        make_backend(copy, precision="int8")


def with_an_outlier(content: onnx.ModelProto) -> onnx.ModelProto:
    """One channel between two convolutions of a block is a million times as large as the others, without effect."""
    for tensor in content.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        match tensor.name.removeprefix("model.encoder.network.layer3.0."):
            case "conv1.weight" | "conv1.bias":
                values[0] *= 2**20
            case "conv2.weight":
                values[:, 0] /= 2**20
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return content


def test_the_block_that_fails_goes_back_to_float_and_no_other(
    bundle: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(quantization.logger, "info", said.append)
    to_onnx = export_module.onnx_format.to_onnx
    monkeypatch.setattr(
        export_module.onnx_format, "to_onnx", lambda program, **options: with_an_outlier(to_onnx(program, **options))
    )
    found = export(bundle, scenes, tmp_path)
    assert found.path is not None
    assert OnnxRuntimeBackend.read_metadata(found.path).quantization.float_blocks == ("encoder.network.layer3.0",)
    before, block, after = said
    assert before.startswith("int8, 0 blocks in float: ")
    assert "of the clear pixels keep their label" in block
    assert re.search(r"encoder\.network\.layer3\.0, \d\d% of the error, goes back to float", block)
    assert re.search(r"int8, 1 blocks in float: .* times as fast as onnxruntime fp32", after)
    assert found.parity.clear_agreement >= 0.9
    kept = {name for name, values in weights_of(found.path).items() if values.dtype == np.float32 and values.ndim == 4}
    assert any("layer3.0.conv2" in name for name in kept)
    assert not any("layer1" in name for name in kept)


def test_images_of_the_gate_are_not_calibrated_on(bundle: Path, scenes: Path, tmp_path: Path) -> None:
    mixed = shutil.copytree(scenes, tmp_path / "mixed")
    val = sorted((scenes / "val/images").iterdir())
    train = sorted((mixed / "train/images").iterdir())
    for image, other in zip(train[2:], [*val] * 4, strict=False):  # copies under other names
        shutil.copy(other, image)
    found = export(bundle, mixed, tmp_path / "out")
    used = OnnxRuntimeBackend.read_metadata(found.path).quantization.images
    assert {Path(image).name for image in used} == {path.stem for path in train[:2]}
    for image, other in zip(train, [*val] * 4, strict=True):
        shutil.copy(other, image)
    with pytest.raises(DataError, match="all images of its split train are also those that the file is checked on"):
        export(bundle, mixed, tmp_path / "none")
    assert not (tmp_path / "none" / "best-int8.onnx").exists()


def test_windows_of_a_scene_are_calibrated_on_but_for_those_of_the_gate(bundle: Path, tmp_path: Path) -> None:
    for folder, name in (("here", "a"), ("there", "b")):  # the same scene under another name
        values = np.random.default_rng(0).integers(0, 255, (150, 210, 3)).astype(np.uint8)
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / f"{name}.tif", values, photometric="RGB")
        write_geojson(tmp_path / folder / f"{name}.geojson", [feature(polygon(on_map(box(0, 20, 50, 60))), kind="car")])
    data, model = DataConfig(window=64, window_gap=0), Segmenter.load(bundle)
    gate = SceneWindow(tmp_path / "there" / "b.tif", 0, 0, 64, 64).path

    def drawn(*excluded: Path) -> set[str]:
        found = Calibration(model, tmp_path / "here", data, 64, dtype="uint8", gate=excluded)
        assert all(image.shape[:2] == (1, 3) for image in found.read())
        return {record.id for record in found.records}

    assert drawn() - drawn(gate) == {"a#y0x0"}


def test_a_file_that_is_not_faster_is_refused_with_the_figures(
    bundle: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parity, "MIN_SPEEDUP", 1000.0)
    arguments = ["export", str(bundle), "--format", "openvino", "--precision", "int8", "--calibrate", str(scenes)]
    assert main([*arguments, "--calibration-images", "2", "--out", str(tmp_path)]) == 3
    assert "times as fast as openvino" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "int8"}, "needs `calibrate=DATASET`"),
        ({"calibrate": "x"}, "^`calibrate`: is for `precision='int8'` only"),
        ({"calibrate": "x", "size": (64, 64)}, "^`calibrate`: .* whose files have neither `size`"),
        ({"target": "vnni"}, "^`target`: is for `precision='int8'` only"),
        ({"calibration_images": 9}, "^`calibration_images`: is for `precision='int8'` only"),
        ({"precision": "int8", "calibrate": "x", "target": "avx3"}, "`target=avx3`: unknown target"),
        ({"precision": "int8", "calibrate": "x", "size": (64, 64)}, "leave `size` and `output` out"),
        ({"precision": "int8", "format": "torch"}, "`format='onnx'` or `format='openvino'`"),
        ({"tolerance": 200.0, "precision": "fp16", "check": "x"}, "`tolerance=200`: .* above 0 and at most 100"),
        ({"tolerance": 1.0}, "`tolerance=1`: is for fp16, bf16 and int8"),
        ({"precision": "fp16", "tolerance": 1.0}, "needs labelled images"),
        ({"precision": "int8", "calibrate": "x", "tolerance": -1.0}, "points, above 0 and at most 100"),
    ],
)
def test_options_that_make_no_sense_are_refused(bundle: Path, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        export_model(bundle, out=tmp_path, **options)
