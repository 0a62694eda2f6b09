"""Files for other programs: one size, another output, another opset; run by ONNX Runtime itself and by OpenCV."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.cli.main import main
from pyramidseg.demo.scenes import SCENE_CLASSES, draw_scene
from pyramidseg.export import onnx_format
from pyramidseg.export.deepness import export_for_deepness
from pyramidseg.export.export_model import export_model
from pyramidseg.export.program_file import WithOutput
from pyramidseg.model.segmenter import Segmenter, load_model
from pyramidseg.predict.predictor import Predictor

IMAGE = draw_scene(4, height=72, width=104).image
DEEPNESS = (
    "class_names",
    "model_type",
    "resolution",
    "seg_thresh",
    "seg_small_segment",
    "tile_size",
    "tiles_overlap",
    "tiles_size",
)
IMAGES = torch.from_numpy(np.stack([IMAGE, IMAGE[::-1]])).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def expected(bundle: Path) -> np.ndarray:
    with torch.inference_mode():
        return load_model(bundle).eval()(IMAGES).numpy()


def outputs(path: Path, images: torch.Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    assert [entry.name for entry in session.get_inputs()] == ["images"]
    return session.run(None, {"images": images.numpy()})


def test_labels_of_any_size(bundle: Path, expected: np.ndarray, tmp_path: Path) -> None:
    export = export_model(bundle, format="onnx", out=tmp_path, output="labels")
    assert export.path == tmp_path / "best-labels.onnx"
    (labels,) = outputs(export.path, IMAGES)
    assert labels.dtype == np.uint8
    assert labels.shape == (2, 72, 104)
    assert (labels == expected.argmax(1)).mean() > 0.9999
    assert outputs(export.path, IMAGES[:1, :, :31, :40])[0].shape == (1, 31, 40)


def test_one_size_in_an_older_opset(bundle: Path, expected: np.ndarray, tmp_path: Path) -> None:
    """As compilers of accelerators need it: no operation of the graph computes a size."""
    export = export_model(
        bundle, format="onnx", out=tmp_path, size=(72, 104), batch_size=2, opset=14, output="probabilities"
    )
    assert export.path == tmp_path / "best-72x104-b2-probabilities.onnx"
    content = onnx.load(export.path)
    assert [entry.version for entry in content.opset_import if not entry.domain] == [14]
    assert content.ir_version == 7
    assert not {node.op_type for node in content.graph.node} & {"Shape", "Gather", "Reshape", "NonZero", "Range"}
    shape = [dimension.dim_value for dimension in content.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [2, 3, 72, 104]
    (found,) = outputs(export.path, IMAGES)
    np.testing.assert_allclose(found, torch.from_numpy(expected).softmax(1).numpy(), atol=1e-4)
    metadata = {entry.key: entry.value for entry in content.metadata_props}
    assert json.loads(metadata["program"]) == {"output": "probabilities", "size": [72, 104], "batch": 2}
    assert json.loads(metadata["input"])["shape"] == [2, 3, 72, 104]
    assert export.parity.pixels > 0
    assert "batches of 2" in export.parity.images


def test_squeeze_and_excitation_in_an_older_opset(tmp_path: Path) -> None:
    """Its reductions lose the attributes that came with opset 18."""
    model = Segmenter(classes=SCENE_CLASSES, encoder="test_efficientnet", encoder_weights="none", pyramid_channels=32)
    model.save(tmp_path / "best.safetensors")
    for opset in (14, 17):
        export = export_model(tmp_path / "best.safetensors", format="onnx", size=(64, 64), opset=opset)
        assert export.path is not None, export.parity
        content = onnx.load(export.path)
        onnx.checker.check_model(content)
        assert "ReduceMean" in {node.op_type for node in content.graph.node}


def test_a_graph_that_the_runtime_refuses_is_not_called_damaged(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert = onnx_format.to_onnx

    def spoiled(*arguments: object, **options: object) -> onnx.ModelProto:
        content = convert(*arguments, **options)
        content.graph.node[-1].op_type = "Unknown"
        return content

    monkeypatch.setattr(onnx_format, "to_onnx", spoiled)
    with pytest.raises(ConfigError, match=r"^the runtime cannot open what was converted: .*Unknown") as raised:
        export_model(bundle, format="onnx", out=tmp_path, size=(64, 64))
    assert ".part" not in str(raised.value)
    assert not any(tmp_path.iterdir())


def test_opencv_computes_the_same(bundle: Path, expected: np.ndarray, tmp_path: Path) -> None:
    """Its classic engine takes graphs of one size only."""
    export = export_model(bundle, format="onnx", out=tmp_path, size=(72, 104))
    network = cv2.dnn.readNetFromONNX(str(export.path))
    network.setInput(IMAGES[:1].numpy())
    np.testing.assert_allclose(network.forward("logits"), expected[:1], atol=1e-4)


def test_an_opset_of_any_size(bundle: Path, tmp_path: Path) -> None:
    export = export_model(bundle, format="onnx", out=tmp_path, opset=18)
    assert export.path is not None
    content = onnx.load(export.path)
    assert [entry.version for entry in content.opset_import if not entry.domain] == [18]
    assert content.ir_version == 8
    assert Predictor(export.path).predict(IMAGE).labels.shape == (72, 104)


def test_predict_refuses_such_a_file_and_names_its_bundle(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = export_model(bundle, format="onnx", out=tmp_path, size=(64, 64))
    with pytest.raises(WeightsError, match=r"for other programs \(logits of 1 x 64x64\); use its bundle \(best"):
        Predictor(export.path)
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE)
    assert main(["predict", str(export.path), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_file_beside_its_bundle_is_not_taken_for_it(bundle: Path, tmp_path: Path) -> None:
    model = tmp_path / "best.safetensors"
    model.write_bytes(bundle.read_bytes())
    export_model(model, format="onnx", size=(64, 64))
    assert "torch" in Predictor(model, device="cpu").backend.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opset": 13, "size": (64, 64)}, "`opset=13`: choose 14 to 23"),
        ({"opset": 14}, "`opset=14`: choose 18 to 23; opset 14 needs a graph of one size: `size=.512, 512.`"),
        ({"opset": 99}, "`opset=99`: choose 18 to 23"),
        ({"batch_size": 2}, "`batch_size=2`: has no effect without a size"),
        ({"batch_size": 0, "size": (64, 64)}, "`batch_size=0`: choose a number from 1"),
        ({"output": "mask"}, "`output=mask`: choose logits, labels, probabilities"),
        (
            {"format": "torch", "size": (64, 64)},
            "`format=torch`: `opset` is for onnx; `size` and `output` for onnx, exec",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(bundle: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export_model(bundle, **{"format": "onnx", **options})


def test_a_damaged_file_is_not_left(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check runs the file itself, also where its output is labels."""
    monkeypatch.setattr(WithOutput, "forward", lambda self, images: self.both(images)[0].argmin(1).to(torch.uint8))
    assert export_model(bundle, format="onnx", out=tmp_path, size=(64, 64), output="labels").path is None
    assert not list(tmp_path.iterdir())


def test_a_file_for_qgis(
    bundle: Path, expected: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Deepness runs it: bytes divided by 255, metadata in JSON, classes counted from 0, no threshold."""
    options = ("--for", "deepness", "--size", "96x96", "--resolution", "10")
    assert main(["export", str(bundle), *options, "--out", str(tmp_path)]) == 0
    path = tmp_path / "best-96x96-probabilities.onnx"
    printed = capsys.readouterr().out
    assert f"file: {path}" in printed
    assert "checking on 4 synthetic scenes, at 96x96 in batches of 1\n" in printed
    session = onnxruntime.InferenceSession(str(path))
    texts = {
        key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items() if key in DEEPNESS
    }
    names = load_model(bundle).classes.names
    assert texts["class_names"] == {str(index): name for index, name in enumerate(names)}
    assert texts["model_type"] == "Segmentor"
    assert (texts["tile_size"], texts["tiles_size"], texts["resolution"]) == (96, 96, 10.0)
    assert (texts["seg_thresh"], texts["seg_small_segment"]) == (0.0, 0)
    assert texts["tiles_overlap"] == 34  # 32 pixels in percent, rounded up
    tile = np.float32(np.pad(IMAGE, ((0, 24), (0, 0), (0, 0)), mode="edge")[:, :96] / 255).transpose(2, 0, 1)[None]
    assert [entry.shape for entry in session.get_inputs()] == [[1, 3, 96, 96]]
    (found,) = session.run(None, {"images": tile})
    with torch.inference_mode():
        truth = load_model(bundle).eval()(torch.from_numpy(tile)).softmax(1).numpy()
    np.testing.assert_allclose(found, truth, atol=1e-4)


@pytest.mark.parametrize("metres", [0.25, None])
def test_qgis_gets_the_resolution_of_the_training_images(bundle: Path, tmp_path: Path, metres: float | None) -> None:
    load_model(bundle).save(tmp_path / "best.safetensors", facts={"data": {"metres_per_pixel": metres}})
    export = export_for_deepness(tmp_path / "best.safetensors", tile_px=64)
    texts = {entry.key: entry.value for entry in onnx.load(export.path).metadata_props}
    assert texts.get("resolution") == (None if metres is None else "25.0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "96x64"], "Deepness cuts square windows; give --size 96x96"),
        (["--resolution", "0"], "--resolution 0: must be above 0 centimetres per pixel"),
        (["--precision", "fp16"], "--precision: has no effect with --for deepness; leave it out"),
    ],
)
def test_options_that_do_not_fit_qgis(
    bundle: Path, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(bundle), "--for", "deepness", "--out", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
