"""Files that are damaged, incomplete or somebody else's: one line that names them, and nothing is run."""

import io
import pickle
import shutil
import zipfile

import onnx
import pytest
import torch

from pyramidseg.errors import WeightsError
from pyramidseg.predict.backends import make_backend


def copied(path, folder):
    """A copy of an exported file, with whatever belongs to it."""
    for file in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(file, folder / file.name)
    return folder / path.name


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        make_backend(path, device="cpu")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
@pytest.mark.parametrize("content", [b"", b"junk" * 100, b"<net></net>"])
def test_a_file_of_another_kind(tmp_path, suffix, content):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2"])
def test_no_file_at_all(tmp_path, suffix):
    assert "no such file" in refusal(tmp_path / f"model{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    assert "a folder" in refusal(tmp_path / f"folder{suffix}")


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
def test_a_file_cut_short(exported, tmp_path, format):
    path = copied(exported(format), tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("format", ["onnx", "openvino", "torch"])
def test_a_weight_that_changed(exported, tmp_path, format):
    path = copied(exported(format), tmp_path)
    holder = path.with_suffix(".bin") if format == "openvino" else path
    content = bytearray(holder.read_bytes())
    if format == "onnx":  # in a weight, not in the text of the graph
        largest = max(onnx.load(path).graph.initializer, key=lambda tensor: len(tensor.raw_data))
        middle = bytes(content).find(largest.raw_data) + len(largest.raw_data) // 2
    else:
        middle = len(content) // 2
    content[middle] ^= 0x40
    holder.write_bytes(content)
    assert "damaged" in refusal(path)


def test_openvino_weights_that_are_missing_or_anothers(exported, tmp_path):
    path = copied(exported("openvino"), tmp_path)
    path.with_suffix(".bin").unlink()
    assert "best.bin, which holds its weights, is not beside it" in refusal(path)
    half = exported("openvino", precision="fp16")
    shutil.copy(half.with_suffix(".bin"), path.with_suffix(".bin"))
    assert "belongs to another export" in refusal(path)


def test_an_onnx_file_of_another_program(exported, tmp_path):
    content = onnx.load(exported("onnx"))
    del content.metadata_props[:]
    onnx.save(content, tmp_path / "theirs.onnx")
    assert "was not exported by pyramidseg" in refusal(tmp_path / "theirs.onnx")


def test_a_card_that_cannot_be_read(exported, tmp_path):
    content = onnx.load(exported("onnx"))
    for entry in content.metadata_props:
        if entry.key == "classes":
            entry.value = '{"names": ["a", "a"], "colors": [[0, 0, 0], [1, 1, 1]]}'
    onnx.save(content, tmp_path / "odd.onnx")
    assert "metadata this version" in refusal(tmp_path / "odd.onnx")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


@pytest.mark.parametrize("name", ["data/sample_inputs/model.pt", "data/constants/opaque_obj_0", "data/other.bin"])
def test_code_in_a_torch_file_is_not_run(exported, tmp_path, name):
    path = tmp_path / "evil.pt2"
    tensors = io.BytesIO()
    torch.save(Bomb(), tensors)
    payload = tensors.getvalue() if name.endswith(".pt") else pickle.dumps(Bomb())
    with zipfile.ZipFile(exported("torch")) as ours, zipfile.ZipFile(path, "w") as theirs:
        root = ours.namelist()[0].partition("/")[0]
        for entry in ours.namelist():
            if entry != f"{root}/{name}":
                theirs.writestr(entry, ours.read(entry))
        theirs.writestr(f"{root}/{name}", payload)
    assert "could run any code; it is not loaded" in refusal(path)
