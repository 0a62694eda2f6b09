"""Fixtures of a small bundle and its exports, made once per session: tracing and converting take seconds."""

import copy
import dataclasses
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from torch.export import ExportedProgram

from pyramidseg.demo.scenes import SCENE_CLASSES
from pyramidseg.export import export_model as exporting
from pyramidseg.export import graph, onnx_format
from pyramidseg.export.export_model import export_model
from pyramidseg.model.segmenter import Segmenter

PROGRAMS: dict[tuple[object, ...], ExportedProgram] = {}
LOADED: dict[str, ExportedProgram] = {}
"""What has been made in this process, for the folders of tests that share it."""


@pytest.fixture(scope="session", autouse=True)
def traced_once() -> Iterator[None]:
    """Remember graphs of a model, what they are in ONNX, and what torch reads from a file.

    Tests mostly export the one bundle below.
    """
    load = torch.export.load

    def capture(segmenter, *, precision, input_dtype, as_written, change, shape):
        changed = change(segmenter)
        output = None if changed is segmenter else (changed.output, type(changed).forward)  # which a test may replace
        weights = (segmenter.classifier.weight, segmenter.mean, segmenter.std)
        key = (precision, input_dtype, as_written, shape, output, *(float(each.detach().sum()) for each in weights))
        if key not in PROGRAMS:
            PROGRAMS[key] = graph.capture(
                segmenter,
                precision=precision,
                input_dtype=input_dtype,
                as_written=as_written,
                change=change,
                shape=shape,
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
        patch.setattr(onnx_format, "to_onnx", lambda program, **options: copy.deepcopy(converted(program, **options)))
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


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """The folder, to be filled; or None, once another fixture or another process of these tests has filled it."""
    with FileLock(f"{folder}.lock"):
        yield None if folder.exists() else folder


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes of pytest-xdist, or that of this process."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model as after training, whose logits differ by more than its initialisation would have them."""
    place = shared_folder(tmp_path_factory) / "bundle"
    with made_once(place) as folder:
        if folder is not None:
            write_bundle(folder)
    return place / "best.safetensors"


def write_bundle(folder: Path) -> None:
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
    folder.mkdir()
    model.save(folder / "best.safetensors", facts={"data": {"metres_per_pixel": 0.25}})


@pytest.fixture(scope="session")
def exported(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Path of the bundle's export to a format, checked on synthetic scenes; not to be changed."""

    def export(format: str, *, precision: str = "fp32", input_dtype: str = "uint8") -> Path:
        place = shared_folder(tmp_path_factory) / f"{format}-{precision}-{input_dtype}"
        with made_once(place) as folder:
            if folder is not None:
                result = export_model(bundle, format=format, precision=precision, input_dtype=input_dtype, out=folder)
                assert result.path is not None, dataclasses.asdict(result.parity)
        (report,) = place.glob("*.parity.json")
        return report.with_name(report.name.removesuffix(".parity.json"))

    return export
