"""`export --for cvat-nuclio`: the written folder's own main.py answers as CVAT's server reads it."""

import base64
import importlib.util
import io
import json
import logging
from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import pyramidseg as ps
from made_server import noise, png
from pyramidseg.cli.main import main

PIXELS = noise(5, 6).repeat(8, 0).repeat(10, 1)  # (40, 60, 3)
NAMES = ("road", "background", "tree: é")


@dataclass
class Answer:
    body: str
    headers: dict
    content_type: str
    status_code: int


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    model = ps.Segmenter(classes=NAMES, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).eval()
    path = tmp_path_factory.mktemp("runs") / "First Run!" / "best.safetensors"
    path.parent.mkdir()
    model.save(path)
    return path


@pytest.fixture(scope="module")
def folder(bundle, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "function"
    assert main(["export", str(bundle), "--for", "cvat-nuclio", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def ask(folder):
    """The function, as Nuclio loads and calls it."""
    spec = importlib.util.spec_from_file_location("nuclio_main", folder / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = SimpleNamespace(user_data=SimpleNamespace(), logger=logging.getLogger("nuclio"), Response=Answer)
    module.init_context(context)

    def call(content, **more):
        event = SimpleNamespace(body={"image": base64.b64encode(content).decode(), **more})
        answer = module.handler(context, event)
        assert (answer.content_type, answer.status_code) == ("application/json", 200)
        return json.loads(answer.body)

    return call


def drawn(shapes, height, width, without):
    """Labels of shapes as CVAT's lambda manager and mask tools read them: a bitmap, then an inclusive box."""
    labels = np.full((height, width), without, np.uint8)
    for shape in shapes:
        *bits, left, top, right, bottom = shape["mask"]
        assert len(bits) == (right - left + 1) * (bottom - top + 1) and set(bits) <= {0, 1}
        mask = np.array(bits, bool).reshape(bottom - top + 1, right - left + 1)
        assert mask.any(0)[[0, -1]].all() and mask.any(1)[[0, -1]].all()  # the box is tight
        part = labels[top : bottom + 1, left : right + 1]
        assert part.shape == mask.shape and (part[mask] == without).all()  # inside the image, no overlap
        part[mask] = NAMES.index(shape["label"])
    return labels


def test_the_masks_are_the_predictors_labels(ask, bundle):
    shapes = ask(png(PIXELS), threshold=0)
    expected = ps.Predictor(bundle).predict(PIXELS, confidence=True)
    assert len(shapes) > 3 and {shape["type"] for shape in shapes} == {"mask"}
    assert {shape["label"] for shape in shapes} <= {"road", "tree: é"}
    assert (drawn(shapes, 40, 60, 1) == expected.labels).all()
    for shape in shapes:
        assert isinstance(shape["confidence"], str) and 0 < float(shape["confidence"]) <= 1
        outline = np.array(shape["points"]).reshape(-1, 2)
        *_, left, top, right, bottom = shape["mask"]
        assert [*outline.min(0), *outline.max(0)] == [left, top, right + 1, bottom + 1]


def test_the_outline_is_that_of_the_mask(ask):
    for shape in ask(png(PIXELS)):
        large = np.zeros((400, 600), np.uint8)  # pixel centres are at 5, 15, ...
        cv2.fillPoly(large, [np.array(shape["points"]).reshape(-1, 2).astype(np.int32) * 10], 1)
        label = drawn([shape], 40, 60, 1)
        assert (large[5::10, 5::10].astype(bool) == (label != 1)).all()


def test_the_threshold_leaves_out_unsure_regions(ask):
    every = ask(png(PIXELS))
    threshold = float(np.median([float(shape["confidence"]) for shape in every]))
    kept = ask(png(PIXELS), threshold=threshold + 1e-4)
    assert 0 < len(kept) < len(every) and all(float(shape["confidence"]) >= threshold for shape in kept)


def test_images_of_other_modes_and_formats(ask):
    for mode, kind in (("L", "PNG"), ("RGBA", "PNG"), ("P", "GIF"), ("CMYK", "JPEG")):
        file = io.BytesIO()
        Image.fromarray(PIXELS).convert(mode).save(file, kind)
        drawn(ask(file.getvalue()), 40, 60, 1)


def test_function_yaml_is_what_nuctl_reads(folder):
    function = yaml.safe_load((folder / "function.yaml").read_text("utf-8"))
    about = function["metadata"]["annotations"]
    assert about["type"] == "detector" and function["metadata"]["name"] == about["name"] == "pyramidseg-first-run"
    assert json.loads(about["spec"]) == [
        {"id": 0, "name": "road", "type": "mask"},
        {"id": 2, "name": "tree: é", "type": "mask"},
    ]
    spec = function["spec"]
    assert (spec["handler"], spec["runtime"]) == ("main:handler", "python:3.11")
    steps = [(step["kind"], step["value"]) for step in spec["build"]["directives"]["preCopy"]]
    assert ("RUN", f"uv pip install --system --no-cache --torch-backend cpu pyramidseg=={ps.__version__}") in steps
    assert spec["triggers"]["myHttpTrigger"]["attributes"]["maxRequestBodySize"] == 32 * 2**20
    names = {path.name for path in folder.iterdir()} - {"__pycache__"}  # another test imports main.py
    assert names == {"function.yaml", "main.py", "model.safetensors"}


def test_the_bundle_is_copied_unchanged(folder, bundle):
    assert (folder / "model.safetensors").read_bytes() == bundle.read_bytes()


def test_without_out_the_folder_is_next_to_the_bundle(tmp_path, bundle, capsys):
    (tmp_path / "street.safetensors").write_bytes(bundle.read_bytes())
    assert main(["export", str(tmp_path / "street.safetensors"), "--for", "cvat-nuclio"]) == 0
    assert (tmp_path / "street-cvat-nuclio/function.yaml").exists()
    assert main(["export", str(tmp_path / "street.safetensors"), "--for", "cvat-nuclio"]) == 2
    assert "already holds model.safetensors, which is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "give --format onnx, openvino, torch, executorch, litert, coreml, or web; or --for cvat-nuclio"),
        (("--for", "cvat-nuclio", "--format", "onnx"), "give --format"),
        (("--for", "cvat-nuclio", "--precision", "fp16"), "--precision: has no effect with --for"),
        (("--for", "cvat-nuclio", "--size", "64x64"), "--size: has no effect with --for"),
        (("--for", "triton"), "cvat-nuclio"),
    ],
)
def test_options_that_do_not_go_together(bundle, tmp_path, capsys, options, words):
    assert main(["export", str(bundle), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_names_of_functions_are_those_of_images_of_containers(bundle, tmp_path):
    copy = tmp_path / f"{'a' * 39}-b4.safetensors"
    copy.write_bytes(bundle.read_bytes())
    assert main(["export", str(copy), "--for", "cvat-nuclio", "--out", str(tmp_path / "out"), "-q"]) == 0
    assert yaml.safe_load((tmp_path / "out/function.yaml").read_text())["metadata"]["name"] == f"pyramidseg-{'a' * 39}"


def test_models_of_four_channels_are_refused(tmp_path, capsys):
    model = ps.Segmenter(classes=["a", "b"], encoder="test_resnet", encoder_weights="none", in_channels=4)
    model.save(tmp_path / "four.safetensors")
    out = tmp_path / "out"
    assert main(["export", str(tmp_path / "four.safetensors"), "--for", "cvat-nuclio", "--out", str(out)]) == 2
    assert "CVAT sends images of 1 or 3 channels" in capsys.readouterr().err
    assert not out.exists()
