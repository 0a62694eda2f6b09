"""Files for phones, with stand-ins for their libraries; the real ones are in tests/clients."""

import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from pyramidseg.base.errors import ConfigError, MissingExtra, OutputError, WeightsError
from pyramidseg.cli.main import main
from pyramidseg.export.export_model import export_model
from pyramidseg.export.mobile_formats import CoreMlFile, ExecuTorchFile, LiteRtFile, MobileFile
from pyramidseg.model.segmenter import load_model

FORMATS: dict[str, type[MobileFile]] = {kind.format: kind for kind in (ExecuTorchFile, LiteRtFile, CoreMlFile)}


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, bundle: Path) -> str:
    """A format whose files hold nothing, and which run as the bundle; its library prints from C."""
    kind, model = FORMATS[request.param], load_model(bundle).eval()

    def convert(program: torch.export.ExportedProgram, image: torch.Tensor, precision: str, output: str) -> bytes:
        os.write(1, b"converting\n")
        print("converting", file=sys.stderr)
        return b"a program"

    def load(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        assert path.read_bytes() == b"a program"
        return lambda images: model(images)

    monkeypatch.setattr(kind, "libraries", ())
    monkeypatch.setattr(kind, "_convert", staticmethod(convert))
    monkeypatch.setattr(kind, "_load", staticmethod(load))
    monkeypatch.setattr(CoreMlFile, "runs_here", True)
    return request.param


@pytest.mark.parametrize("format", ["executorch", "coreml"], indirect=True)
def test_a_file_that_agrees_is_kept(
    format: str, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = [
        "export",
        str(bundle),
        "--format",
        format,
        "--size",
        "64x96",
        "--batch-size",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    printed = capfd.readouterr()
    assert "converting" not in printed.out + printed.err
    file = tmp_path / f"best-64x96-b2{FORMATS[format].suffix}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        file.name,
        f"{file.name}.json",
        f"{file.name}.parity.json",
    ]
    metadata = FORMATS[format].read_metadata(file)
    assert (metadata.input_dtype, str(metadata.program)) == ("float32", "logits of 2 x 64x96")
    assert metadata.parity is not None
    assert metadata.parity["agreement"] == 1
    assert json.loads((tmp_path / f"{file.name}.parity.json").read_text())["parity"]["passed"]
    assert main(command) == 0
    file.write_bytes(b"a changed program")
    with pytest.raises(WeightsError, match="its checksum does not match its content"):
        FORMATS[format].read_metadata(file)
    with pytest.raises(WeightsError, match="is an export for other programs; give the bundle"):
        load_model(file)


@pytest.mark.parametrize("format", ["litert"], indirect=True)
def test_a_file_that_disagrees_is_not(
    format: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(bundle).eval()
    monkeypatch.setattr(FORMATS[format], "_load", staticmethod(lambda path: lambda images: -model(images)))
    export = export_model(bundle, format=format, size=(64, 96), out=tmp_path)
    assert export.path is None
    assert export.parity is not None
    assert export.parity.agreement < 0.9
    assert not list(tmp_path.iterdir())


def test_elsewhere_than_on_macos_core_ml_is_written_without_a_comparison(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CoreMlFile, "libraries", ())
    monkeypatch.setattr(CoreMlFile, "_convert", staticmethod(lambda *_: b"a program"))
    monkeypatch.setattr(CoreMlFile, "runs_here", False)
    assert main(["export", str(bundle), "--format", "coreml", "--size", "64x96", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "same label" not in printed.out
    assert "not compared with the bundle; on macOS, where Core ML runs, it is" in printed.err
    report = json.loads((tmp_path / "best-64x96.mlpackage.zip.parity.json").read_text())
    assert report["parity"] == "not run: needs macOS"
    assert CoreMlFile.read_metadata(tmp_path / "best-64x96.mlpackage.zip").parity is None


def test_another_file_of_the_name_is_kept(format: str, bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / f"best-64x96{FORMATS[format].suffix}"
    for content in (b"", b"{", b'{"format": "of another program"}'):
        file.write_bytes(b"of somebody else")
        file.with_name(f"{file.name}.json").write_bytes(content)
        with pytest.raises(OutputError, match="exists and was not exported by pyramidseg"):
            export_model(bundle, format=format, size=(64, 96), out=tmp_path)
        assert file.read_bytes() == b"of somebody else"


@pytest.mark.parametrize("format", ["litert"], indirect=True)
def test_what_a_converter_cannot_do_is_one_line(
    format: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*_: object) -> bytes:
        raise NotImplementedError("operation roll\n  is unknown")

    monkeypatch.setattr(FORMATS[format], "_convert", staticmethod(convert))
    message = f"`format={format}`: cannot be converted: operation roll is unknown; try `format='onnx'`"
    with pytest.raises(ConfigError, match=message):
        export_model(bundle, format=format, size=(64, 96), out=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "such files take images of one size; add it, such as `size=.512, 512.`"),
        ({"output": "labels"}, "such files take images of one size; add it"),
        ({"size": (64, 64), "input_dtype": "uint8"}, "`input_dtype=uint8`: files of `format=.*` take float32 images"),
        ({"size": (64, 64), "precision": "int8"}, "`precision=int8`: choose fp32"),
        ({"size": (64, 64), "opset": 17}, "`opset` is for onnx; `size` and `output` for onnx, executorch"),
        ({"size": (64, 64), "device": "cuda"}, "`device=cuda`"),
    ],
)
def test_what_cannot_be_written_is_refused(format: str, bundle: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        export_model(bundle, format=format, **options)


@pytest.mark.parametrize("kind", FORMATS.values())
def test_a_missing_library_is_named_before_anything_is_traced(
    kind: type[MobileFile], tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = kind.libraries[0].partition(".")[0]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"needs {library.replace('_', '-')}.*pyramidseg\[{kind.format}\]"):
        export_model(bundle, format=kind.format, size=(64, 64), out=tmp_path)
    assert import_module("pyramidseg.export.targets").FORMATS[kind.format] is kind
