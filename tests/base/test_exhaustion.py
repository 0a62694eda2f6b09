"""Memory, threads and files that run out: one line and status 2, whichever library says so."""

import errno
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import pyramidseg as ps
from pyramidseg.base.classes import MAX_NAME, Classes
from pyramidseg.base.device import out_of_memory_explained
from pyramidseg.base.errors import DataError, DeviceError, WeightsError
from pyramidseg.base.exhaustion import explain_exhaustion
from pyramidseg.cli import main as command_line
from pyramidseg.model.tensor_files import read_tensors


class RuntimeException(Exception):
    """As that of ONNX Runtime."""


ERRORS = [
    (MemoryError(), "out of memory"),
    (np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype(np.uint8)), "out of memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory"),
    (RuntimeError("could not create a primitive"), "out of memory"),
    (RuntimeException("[ONNXRuntimeError] : 6 : bad allocation"), "out of memory"),
    (RuntimeException("Failed to allocate memory for requested buffer of size 68719476736"), "out of memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
    (ImportError("libx.so: failed to map segment from shared object"), "out of memory"),
    (OSError("codec configuration error when writing image file"), "out of memory"),  # Pillow
    (RuntimeError("can't start new thread"), "too many threads or processes"),
    (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "too many threads or processes"),
    (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
    (
        RuntimeError("Caught OSError in DataLoader worker process 0.\n[Errno 24] Too many open files"),
        "too many open files",
    ),
]


@pytest.mark.parametrize(("error", "said"), ERRORS, ids=lambda value: str(value)[:30])
def test_what_ran_out_is_one_line_with_status_2(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*arguments: object) -> int:
        raise error

    monkeypatch.setattr(command_line.COMMANDS["config"], "run", failing)
    assert command_line.main(["config"]) == 2
    captured = capsys.readouterr().err
    assert captured.startswith(f"error: {said}: ") and captured.count("\n") == 1
    advice = {"out of memory": "lower it", "too many threads or processes": r"raise the limit \(ulimit -u\)"}
    needed = advice.get(said, r"raise the limit \(ulimit -n")
    with pytest.raises(DeviceError, match=f"{said}: {needed}"), out_of_memory_explained("lower it"):
        raise error


@pytest.mark.parametrize("error", [ValueError("a defect"), KeyError("memory"), RuntimeError("shape mismatch")], ids=str)
def test_a_defect_of_ours_is_not_taken_for_one_of_the_machine(error: Exception) -> None:
    assert explain_exhaustion(error) is None
    with pytest.raises(type(error)), out_of_memory_explained("lower it"):
        raise error


def test_a_bundle_is_compared_before_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"encoder_weights": "none", "num_classes": 2, "pyramid_channels": 32, "segmentation_channels": 32}
    model = ps.Segmenter(encoder="test_resnet", **small)
    model.settings = model.settings.model_copy(update={"pyramid_channels": 65536})
    model.save(tmp_path / "claims.safetensors")
    built = []
    without_weights = ps.Segmenter.without_weights

    def build(*arguments: object, **options: object) -> ps.Segmenter:
        built.append(torch.empty(0).device.type)
        return without_weights(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ps.Segmenter, "without_weights", build)
    with pytest.raises(WeightsError, match=r"another network: .* of another shape: decoder"):
        ps.load_model(tmp_path / "claims.safetensors")
    assert built == ["meta"]


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "plain.pth")
    assert read_tensors(tmp_path / "plain.pth")["weight"].shape == (1000,)
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
        bomb.writestr("archive/data/1", bytes(50_000_000))
    with pytest.raises(
        WeightsError, match=r"bomb\.pth: .*it is compressed, and would take 0\.05 GB when it is unpacked"
    ):
        read_tensors(tmp_path / "bomb.pth")


def test_a_class_name_that_no_table_can_show_is_refused_shortened() -> None:
    Classes.from_names(["a" * MAX_NAME])
    with pytest.raises(DataError, match="has 100000 characters; at most 200 are possible") as error:
        Classes.from_names(["a" * 100_000])
    assert len(str(error.value)) < 200
