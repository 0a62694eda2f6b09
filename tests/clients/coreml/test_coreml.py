"""Core ML runs on macOS only: here the operations that a file holds are computed by torch, as their definitions say."""

import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

pytest.importorskip("coremltools", reason="make test-clients")

import coremltools

from made_exports import bundle, traced_once
from mobile_checks import IMAGES, check_command, check_outputs
from pyramidseg.export.export_model import export_model
from pyramidseg.export.mobile_formats import CoreMlFile

__all__ = ["bundle", "traced_once"]

pytestmark = pytest.mark.filterwarnings("default")  # of the library


def padding(pad: NDArray[np.int32]) -> list[int]:
    assert pad[0] == pad[1]
    assert pad[2] == pad[3]
    return [int(pad[0]), int(pad[2])]


def scales(given: SimpleNamespace) -> list[float]:
    return [float(given.scale_factor_height), float(given.scale_factor_width)]


def padded(given: SimpleNamespace) -> torch.Tensor:
    assert given.mode == "constant"
    pairs = given.pad.reshape(-1, 2)[::-1]  # torch begins with the last axis
    return F.pad(given.x, pairs.ravel().tolist(), value=float(given.constant_val))


def mean(given: SimpleNamespace) -> torch.Tensor:
    counted = not given.exclude_padding_from_average
    sides, strides, ceil = given.kernel_sizes.tolist(), given.strides.tolist(), bool(given.ceil_mode)
    return F.avg_pool2d(given.x, sides, strides, padding(given.pad), ceil, counted)


def convolution(given: SimpleNamespace) -> torch.Tensor:
    weight, bias = torch.from_numpy(given.weight), torch.from_numpy(given.bias)
    strides, dilations = (tuple(values.tolist()) for values in (given.strides, given.dilations))
    return F.conv2d(given.x, weight, bias, strides, padding(given.pad), dilations, int(given.groups))


COMPUTED = {
    "sub": lambda given: given.x - given.y,
    "mul": lambda given: given.x * given.y,
    "add": lambda given: given.x + given.y,
    "relu": lambda given: given.x.relu(),
    "pad": padded,
    "avg_pool": mean,
    "conv": convolution,
    "max_pool": lambda given: F.max_pool2d(
        given.x, given.kernel_sizes.tolist(), given.strides.tolist(), padding(given.pad)
    ),
    "upsample_nearest_neighbor": lambda given: F.interpolate(given.x, scale_factor=scales(given), mode="nearest"),
    "upsample_bilinear": lambda given: F.interpolate(
        given.x, scale_factor=scales(given), mode="bilinear", align_corners=bool(given.align_corners)
    ),
    "softmax": lambda given: given.x.softmax(int(given.axis)),
    "reduce_argmax": lambda given: given.x.argmax(int(given.axis), keepdim=bool(given.keep_dims)).int(),
    "cast": lambda given: given.x.to({"fp32": torch.float32, "fp16": torch.float16, "int32": torch.int32}[given.dtype]),
    "slice_by_index": lambda given: given.x[tuple(map(slice, given.begin.tolist(), given.end.tolist()))],
}
"""Operations of the MIL language, by name."""


def evaluate(package: Path, images: NDArray[np.float32]) -> dict[str, NDArray[np.generic]]:
    from coremltools.converters.mil.frontend.milproto.load import load

    spec = coremltools.models.utils.load_spec(str(package))
    program = load(spec, spec.specificationVersion, str(package / "Data/com.apple.CoreML/weights"))
    main = program.functions["main"]
    values = {"images": torch.from_numpy(images)}
    for operation in main.operations:
        if operation.op_type == "const":
            continue
        given = {}
        for name, variable in operation.inputs.items():
            constant = getattr(variable, "val", None)
            value = values[variable.name] if constant is None else constant
            given[name] = torch.from_numpy(value) if name == "y" and constant is not None else value
        (output,) = operation.outputs
        values[output.name] = COMPUTED[operation.op_type](SimpleNamespace(**given))
    return {output.name: values[output.name].numpy() for output in main.outputs}


def unpacked(file: Path, folder: Path) -> Path:
    shutil.unpack_archive(file, folder, "zip")
    (package,) = folder.iterdir()
    assert package.name == "pyramidseg.mlpackage"
    return package


def run(file: Path, images: NDArray[np.float32]) -> NDArray[np.generic]:
    with tempfile.TemporaryDirectory() as folder:
        (output,) = evaluate(unpacked(file, Path(folder)), images).values()
    return output


def test_its_outputs_are_those_of_the_bundle(bundle: Path, tmp_path: Path) -> None:
    check_outputs("coreml", ".mlpackage.zip", bundle, run, tmp_path)


def test_the_command_says_what_was_not_compared(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check_command("coreml", ".mlpackage.zip", bundle, tmp_path, capfd)
    export = export_model(bundle, format="coreml", out=tmp_path, size=(64, 64))
    assert export.parity is None
    assert json.loads(export.report.read_text())["parity"] == "not run: needs macOS"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_an_app_sees(bundle: Path, precision: str, tmp_path: Path) -> None:
    """Names, types and sizes; fp16 is inside."""
    export = export_model(bundle, format="coreml", precision=precision, out=tmp_path, size=(72, 104), output="labels")
    spec = coremltools.models.utils.load_spec(str(unpacked(export.path, tmp_path / "unpacked")))
    (image,), (labels,) = spec.description.input, spec.description.output
    types = coremltools.proto.FeatureTypes_pb2.ArrayFeatureType
    assert (image.name, list(image.type.multiArrayType.shape)) == ("images", [1, 3, 72, 104])
    assert image.type.multiArrayType.dataType == types.FLOAT32
    assert (labels.name, list(labels.type.multiArrayType.shape)) == ("labels", [1, 72, 104])
    assert labels.type.multiArrayType.dataType == types.INT32
    operations = [entry.type for entry in spec.mlProgram.functions["main"].block_specializations["CoreML6"].operations]
    assert ("cast" in operations) == (precision == "fp16")


def test_on_macos_it_is_compared(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Core ML's own class; of another one with other results nothing is kept."""

    class Model(coremltools.models.MLModel):
        def __init__(self, package: str, **options: object) -> None:
            super().__init__(package, **options)
            self.package = Path(tempfile.mkdtemp(dir=tmp_path)) / "m"  # Core ML compiles it to a place of its own
            shutil.copytree(package, self.package)

        def predict(self, given: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
            return evaluate(self.package, given["images"])

    class Wrong(Model):
        def predict(self, given: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.generic]]:
            return {name: -value for name, value in super().predict(given).items()}

    monkeypatch.setattr(CoreMlFile, "runs_here", True)
    monkeypatch.setattr(coremltools.models, "MLModel", Model)
    export = export_model(bundle, format="coreml", out=tmp_path, size=IMAGES.shape[2:])
    assert export.parity.agreement > 0.9999
    assert json.loads(export.report.read_text())["parity"]["passed"]
    monkeypatch.setattr(coremltools.models, "MLModel", Wrong)
    found = export_model(bundle, format="coreml", out=tmp_path / "wrong", size=IMAGES.shape[2:])
    assert found.path is None
    assert not (tmp_path / "wrong").exists()
