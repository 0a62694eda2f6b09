"""Fixtures of a small bundle and its exports, made once per session: tracing and converting take seconds."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from pyramidseg.demo.scenes import SCENE_CLASSES
from pyramidseg.export import export_model as exporting
from pyramidseg.export import graph, onnx_format, openvino_format
from pyramidseg.export.export_model import export_model
from pyramidseg.model.segmenter import Segmenter


@pytest.fixture(scope="session", autouse=True)
def traced_once() -> Iterator[None]:
    """Tests mostly export the one bundle below: graphs of a model, and what they are in ONNX, are remembered."""
    programs = {}

    def capture(segmenter, *, precision, input_dtype, as_written):
        weights = (segmenter.classifier.weight, segmenter.mean, segmenter.std)
        key = (precision, input_dtype, as_written, *(float(tensor.detach().sum()) for tensor in weights))
        if key not in programs:
            programs[key] = graph.capture(
                segmenter, precision=precision, input_dtype=input_dtype, as_written=as_written
            )
        return programs[key]

    convert = cache(onnx_format.to_onnx)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "capture", capture)
        for module in (onnx_format, openvino_format):
            patch.setattr(module, "to_onnx", lambda program: copy.deepcopy(convert(program)))
        yield


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as after training, whose logits differ by more than its initialisation would have them."""
    torch.manual_seed(0)
    model = Segmenter(
        classes=SCENE_CLASSES,
        encoder="test_resnet",
        encoder_weights="none",
        pyramid_channels=32,
        segmentation_channels=32,
    )
    torch.nn.init.normal_(model.classifier.weight)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
    path = tmp_path_factory.mktemp("bundle") / "best.safetensors"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def exported(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Path of the bundle's export to a format, checked on made scenes; not to be changed."""
    done: dict[tuple[str, str, str], Path] = {}

    def export(format: str, *, precision: str = "fp32", input_dtype: str = "uint8") -> Path:
        key = (format, precision, input_dtype)
        if key not in done:
            result = export_model(
                bundle,
                format=format,
                precision=precision,
                input_dtype=input_dtype,
                out=tmp_path_factory.mktemp(format),
            )
            assert result.path is not None, dataclasses.asdict(result.parity)
            done[key] = result.path
        return done[key]

    return export
