"""Fixtures of a small bundle and its exports, made once per session: tracing and converting take seconds."""

import copy
import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.export import ExportedProgram

from pyramidseg.demo.scenes import SCENE_CLASSES
from pyramidseg.export import export_model as exporting
from pyramidseg.export import graph, onnx_format, web
from pyramidseg.export.export_model import export_model
from pyramidseg.model.segmenter import Segmenter

PROGRAMS: dict[tuple[object, ...], ExportedProgram] = {}
LOADED: dict[str, ExportedProgram] = {}
EXPORTED: dict[tuple[str, str, str], Path] = {}
"""What has been made in this session, for the folders of tests that share it."""


@pytest.fixture(scope="session", autouse=True)
def traced_once() -> Iterator[None]:
    """Remember graphs of a model, what they are in ONNX, and what torch reads from a file.

    Tests mostly export the one bundle below.
    """
    load = torch.export.load

    def capture(segmenter, *, precision, input_dtype, as_written, change, shape):
        if shape is not None or change(segmenter) is not segmenter:
            return graph.capture(
                segmenter,
                precision=precision,
                input_dtype=input_dtype,
                as_written=as_written,
                change=change,
                shape=shape,
            )
        weights = (segmenter.classifier.weight, segmenter.mean, segmenter.std)
        key = (precision, input_dtype, as_written, *(float(tensor.detach().sum()) for tensor in weights))
        if key not in PROGRAMS:
            PROGRAMS[key] = graph.capture(
                segmenter, precision=precision, input_dtype=input_dtype, as_written=as_written
            )
        return PROGRAMS[key]

    def load_once(file: io.BytesIO) -> ExportedProgram:
        key = digest_of(file)
        if key not in LOADED:
            LOADED[key] = load(file)
        return LOADED[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "capture", capture)
        patch.setattr(torch.export, "load", load_once)
        for module in (onnx_format, web):
            patch.setattr(module, "to_onnx", lambda program, **options: copy.deepcopy(converted(program, **options)))
        yield


converted = cache(onnx_format.to_onnx)


def digest_of(file: io.BytesIO) -> str:
    """Of all that `torch.export.load` reads in an archive: not our metadata, nor the name that the file once had."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if "/extra/pyramidseg." not in name:
                digest.update(name.partition("/")[2].encode() + archive.read(name))
    file.seek(0)
    return digest.hexdigest()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as after training, whose logits differ by more than its initialisation would have them."""
    path = tmp_path_factory.getbasetemp() / "bundle" / "best.safetensors"
    if path.exists():  # another folder of tests has asked for it
        return path
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
    path.parent.mkdir()
    model.save(path)
    return path


@pytest.fixture(scope="session")
def exported(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Path of the bundle's export to a format, checked on made scenes; not to be changed."""

    def export(format: str, *, precision: str = "fp32", input_dtype: str = "uint8") -> Path:
        key = (format, precision, input_dtype)
        if key not in EXPORTED:
            result = export_model(
                bundle,
                format=format,
                precision=precision,
                input_dtype=input_dtype,
                out=tmp_path_factory.mktemp(format),
            )
            assert result.path is not None, dataclasses.asdict(result.parity)
            EXPORTED[key] = result.path
        return EXPORTED[key]

    return export
