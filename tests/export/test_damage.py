"""Files that are damaged, incomplete or somebody else's: one line that names them, and nothing is run."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from forks import run_python
from pyramidseg.backends import make_backend
from pyramidseg.backends.metadata import CHECKSUM, CHECKSUM_PLACEHOLDER, file_checksum
from pyramidseg.backends.onnx_backend import metadata_strings
from pyramidseg.backends.torch_export_backend import CHECKSUM_FILE, archive_checksum
from pyramidseg.base.errors import WeightsError
from support import process_environment


def copied(path, folder):
    """A copy of an exported file, with whatever belongs to it."""
    for file in path.parent.glob(f"{path.stem}.*"):
        shutil.copy(file, folder / file.name)
    return folder / path.name


def save_with_checksum(content, path, texts):
    for checksum in (CHECKSUM_PLACEHOLDER, None):
        checksum = checksum or file_checksum(content.SerializeToString())
        onnx.helper.set_model_props(content, {**texts, CHECKSUM: checksum})
    path.write_bytes(content.SerializeToString())


def add_checksum(path):
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/extra/{CHECKSUM_FILE}", archive_checksum(archive))


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


def test_weights_that_another_program_moved_to_other_files(exported, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(onnx.load(exported("onnx")), path, save_as_external_data=True, location="weights", size_threshold=0)
    assert "written by another program: its weights are in other files" in refusal(path)


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
    assert "best.bin, which holds its weights, is not in the same folder" in refusal(path)
    half = exported("openvino", precision="fp16")
    shutil.copy(half.with_suffix(".bin"), path.with_suffix(".bin"))
    assert "belongs to another export or was written again by another program; copy both files" in refusal(path)


def changed_onnx(source, path, change):
    content = onnx.load(source)
    texts = metadata_strings(content)
    change(content, texts)
    onnx.helper.set_model_props(content, texts)
    onnx.save(content, path)
    return path


def other_operator(content, texts):
    next(node for node in content.graph.node if node.op_type == "Relu").op_type = "Abs"


@pytest.mark.parametrize(
    "change",
    [
        other_operator,
        lambda content, texts: texts.update(classes=texts["classes"].replace("sky", "sea")),
        lambda content, texts: texts.update(precision="xx"),
        lambda content, texts: texts.update(parity="null"),
        lambda content, texts: texts.update(sha256=""),
    ],
)
def test_an_onnx_file_that_was_changed(exported, tmp_path, change):
    path = changed_onnx(exported("onnx"), tmp_path / "changed.onnx", change)
    assert "checksum does not match its content; export it again" in refusal(path)


@pytest.mark.parametrize(("old", "new"), [('type="ReLU"', 'type="Abs"'), ("coarse_logits", "other"), ("sky", "sea")])
def test_an_openvino_graph_that_was_changed(exported, tmp_path, old, new):
    path = copied(exported("openvino"), tmp_path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert "checksum does not match its content; export it again" in refusal(path)


def rezipped(source, path, change):
    """A `.pt2` file whose entries are what `change` of name and content gives, without its checksum."""
    with zipfile.ZipFile(source) as ours, zipfile.ZipFile(path, "w") as theirs:
        for name in ours.namelist():
            if not name.endswith(CHECKSUM_FILE):
                theirs.writestr(name, change(name, ours.read(name)))
    return path


def test_a_torch_program_that_was_changed(exported, tmp_path):
    def other(name, content):
        return content.replace(b"aten.relu.default", b"aten.abs.default") if "/models/" in name else content

    path = rezipped(exported("torch"), tmp_path / "changed.pt2", other)
    with zipfile.ZipFile(exported("torch")) as ours, zipfile.ZipFile(path, "a") as theirs:
        name = next(name for name in ours.namelist() if name.endswith(CHECKSUM_FILE))
        theirs.writestr(name, ours.read(name))
    assert "checksum does not match its content; export it again" in refusal(path)


def test_a_file_without_a_checksum(exported, tmp_path):
    onnx_file = changed_onnx(exported("onnx"), tmp_path / "o.onnx", lambda content, texts: texts.pop("sha256"))
    xml_file = copied(exported("openvino"), tmp_path)
    xml_file.write_text(xml_file.read_text(encoding="utf-8").replace("<sha256", "<sha1"), encoding="utf-8")
    torch_file = rezipped(exported("torch"), tmp_path / "t.pt2", lambda name, content: content)
    for path in (onnx_file, xml_file, torch_file):
        assert "holds no checksum" in refusal(path)
    add_checksum(torch_file)
    make_backend(torch_file, device="cpu")


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("_config.json", b"[]"),
        ("_config.json", b"{}"),
        ("_config.json", b'{"config": {"a": 1}}'),
        ("weights_config.json", b'{"config": {"a": {"use_pickle": false}}}'),
        ("sample_inputs/model.pt", b"junk"),
        ("sample_inputs/model.pt", b""),
        ("models/model.json", b"{}"),
    ],
)
def test_a_torch_file_of_odd_entries(exported, tmp_path, ending, content):
    path = rezipped(
        exported("torch"), tmp_path / "odd.pt2", lambda name, own: content if name.endswith(ending) else own
    )
    add_checksum(path)
    refusal(path)


def test_an_onnx_file_of_another_program_or_without_its_metadata(exported, tmp_path):
    content = onnx.load(exported("onnx"))
    del content.metadata_props[:]
    onnx.save(content, tmp_path / "theirs.onnx")
    assert "was not exported by pyramidseg, or another program removed its metadata" in refusal(
        tmp_path / "theirs.onnx"
    )


def test_a_card_that_cannot_be_read(exported, tmp_path):
    content = onnx.load(exported("onnx"))
    texts, path = metadata_strings(content), tmp_path / "odd.onnx"
    save_with_checksum(content, path, texts | {"classes": '{"names": ["a", "a"], "colors": [[0, 0, 0], [1, 1, 1]]}'})
    assert "metadata this version" in refusal(path)
    save_with_checksum(content, path, texts | {"precision": "xx"})
    assert "precision xx" in refusal(path)


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
            if entry != f"{root}/{name}" and not entry.endswith(CHECKSUM_FILE):
                theirs.writestr(entry, ours.read(entry))
        theirs.writestr(f"{root}/{name}", payload)
    add_checksum(path)
    assert "could run any code; the file is not loaded" in refusal(path)


def with_changed_graph(source: Path, path: Path, change: Callable[[dict], None]) -> Path:
    """A copy of a torch file whose graph was changed, under a right checksum."""

    def content(name: str, own: bytes) -> bytes:
        if not (name.endswith(".json") and "/models/" in name):
            return own
        program = json.loads(own)
        change(program)
        return json.dumps(program).encode()

    rezipped(source, path, content)
    add_checksum(path)
    return path


def replace_everywhere(value, key: str, text: str) -> None:
    """Give `text` to every `key` of a JSON value."""
    if isinstance(value, dict):
        for name in value:
            if name == key:
                value[name] = text
            else:
                replace_everywhere(value[name], key, text)
    if isinstance(value, list):
        for item in value:
            replace_everywhere(item, key, text)


CODE = "__import__('pathlib').Path('code-ran').touch()"


@pytest.mark.parametrize(
    "size",
    [
        CODE,
        f"Add(Symbol('s0'), {CODE})",
        "Symbol('s0', **{'integer': True})",
        "Symbol(str(7))",
        "().__class__.__base__.__subclasses__()",
        "[i for i in (1,)]",
        "(lambda: 1)()",
        "Integer('1')",
        "f'{1}'",
        "Lambda(1, 2)",
        "exec",
        "s0.free_symbols",
        "Add(" * 5000 + "1" + ")" * 5000,
        "1 +",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "Pow(Symbol('s0'), Integer(1000000))",
        "hankel1(s0)",
    ],
)
def test_code_in_a_size_is_not_evaluated(exported, tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)
    path = with_changed_graph(
        exported("torch"), tmp_path / "evil.pt2", lambda program: replace_everywhere(program, "expr_str", size)
    )
    assert "the file is not loaded" in refusal(path)
    assert not (tmp_path / "code-ran").exists()


@pytest.mark.parametrize(
    "guard",
    [
        CODE,
        f"L['images'].size()[2] > 0 and {CODE}",
        "L['images'].__class__",
        "L[__import__('os')]",
        "max(1, key=print)",
    ],
)
def test_code_in_a_guard_is_not_evaluated(exported, tmp_path, monkeypatch, guard):
    monkeypatch.chdir(tmp_path)
    path = with_changed_graph(
        exported("torch"), tmp_path / "evil.pt2", lambda program: program.update(guards_code=[guard])
    )
    assert "the file is not loaded" in refusal(path)
    assert not (tmp_path / "code-ran").exists()


@pytest.mark.parametrize(
    "operation",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "_operator.call",
    ],
)
def test_operations_that_are_not_arithmetic_are_not_called(exported, tmp_path, operation):
    def change(program: dict) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = operation

    path = with_changed_graph(exported("torch"), tmp_path / "evil.pt2", change)
    assert f"the operation {operation!r}" in refusal(path)


def test_containers_that_import_modules_are_refused(exported, tmp_path):
    spec = json.dumps([1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}])
    path = with_changed_graph(
        exported("torch"), tmp_path / "evil.pt2", lambda program: replace_everywhere(program, "in_spec", spec)
    )
    assert "containers of type collections.defaultdict" in refusal(path)


@pytest.mark.skipif(os.name == "nt", reason="has no limit on the size of files")
def test_a_disk_that_is_full_in_the_middle_of_an_archive_is_one_line(
    bundle: Path, exported: Callable[..., Path], tmp_path: Path
) -> None:
    """PyTorch's own writer of archives ends the process there."""
    import resource

    done = run_python(
        *("-m", "pyramidseg", "export", bundle, "--format", "torch", "--out", tmp_path / "out"),
        limits={resource.RLIMIT_FSIZE: exported("torch").stat().st_size // 2},
        environment={**process_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {tmp_path / 'out' / 'best.pt2'}: cannot be written: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
