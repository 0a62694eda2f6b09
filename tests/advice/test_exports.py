"""Advice of `export` and `benchmark`: the files that follow predict what their bundle does."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import pyramidseg as ps
from followed import Terminal
from made_exports import bundle, exported, traced_once
from pyramidseg.base.device import has_fast_bf16
from pyramidseg.studies import benchmark_model
from pyramidseg.studies.roofline import Roofline

__all__ = ["bundle", "exported", "traced_once"]

SCENES = Path(__file__).parents[1] / "compatibility" / "files" / "scenes"
PICTURE = SCENES / "val" / "images" / "scene_0006.png"


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture
def model(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle in a folder of its own."""
    return Path(shutil.copy(bundle, tmp_path / "my model.safetensors"))


def agrees(file: Path, bundle: Path) -> bool:
    """Whether an export predicts what the bundle does."""
    labels = [ps.Predictor(path, device="cpu").predict(PICTURE).labels for path in (file, bundle)]
    return float(np.mean(labels[0] == labels[1])) > 0.999


def followed(words: tuple[object, ...], name: str, value: object) -> tuple[object, ...]:
    """The words with another value of an option; None leaves the option out."""
    at = words.index(name)
    return (*words[:at], *(() if value is None else (name, value)), *words[at + 2 :])


@pytest.mark.parametrize("choice", ["uint8", "float32", None])
def test_a_type_that_the_images_of_the_check_do_not_have(
    terminal: Terminal, model: Path, tmp_path: Path, choice: str | None
) -> None:
    words = ("export", model, "--format", "onnx", "--check", SCENES, "--input", "uint16")
    text = terminal(*words, status=2)
    allowed = re.search(r"need (\w+), or (\w+), which takes all types; choose one of these, or leave --input out", text)
    assert allowed and (choice is None or choice in allowed.groups())
    assert "2 images of scenes" in terminal(*followed(words, "--input", choice))
    assert agrees(model.with_suffix(".onnx"), model)


def test_a_type_gets_the_nearest(terminal: Terminal, model: Path) -> None:
    words = ("export", model, "--format", "onnx", "--input", "int8")
    nearest = re.search(r"did you mean '(\w+)'", terminal(*words, status=2))[1]
    terminal(*followed(words, "--input", nearest))
    assert agrees(model.with_suffix(".onnx"), model)


@pytest.mark.parametrize(
    ("given", "way"),
    [
        (("--split", "train"), "leave it out"),
        (("--split", "train"), "pass labelled images with --check"),
        (("data.resize_masks=true",), "pass labelled images with --check"),
    ],
)
def test_what_has_no_effect_without_a_check(terminal: Terminal, model: Path, given: tuple[str, ...], way: str) -> None:
    words = ("export", model, "--format", "onnx")
    text = terminal(*words, *given, status=2)
    assert way in text and "leave it out" in text
    printed = terminal(*words, *([] if way == "leave it out" else [*given, "--check", SCENES]))
    assert ("synthetic scenes" if way == "leave it out" else "images of scenes, split") in printed
    assert agrees(model.with_suffix(".onnx"), model)


@pytest.mark.parametrize("command", [("export", "--format", "onnx"), ("train", SCENES, "--dry-run", "--weights")])
def test_the_bundle_is_given_instead_of_its_export(
    terminal: Terminal, model: Path, exported: Callable[..., Path], command: tuple[object, ...]
) -> None:
    file = exported("onnx")
    words = (command[0], file, *command[1:]) if command[0] == "export" else (*command, file)
    text = terminal(*words, status=2)
    assert re.search(r"the bundle \(\.safetensors\) that it was made from", text)
    terminal(*(model if word == file else word for word in words))


def test_a_precision_that_another_format_has(terminal: Terminal, model: Path) -> None:
    words = ("export", model, "--format", "onnx", "--precision", "bf16")
    text = terminal(*words, status=2)
    formats = re.findall(r"--format (\w+)", text.partition("choose")[2])
    assert formats == ["openvino", "torch"]
    least = re.search(r"choose (fp32) or fp16", text)[1]
    terminal(*followed(words, "--precision", least))
    assert agrees(model.with_suffix(".onnx"), model)
    printed = terminal(*followed(words, "--format", "openvino"), status=0 if has_fast_bf16(torch.device("cpu")) else 2)
    assert "file: " in printed or "export in fp32" in printed


def test_a_file_that_is_not_ours_is_kept_by_another_out(terminal: Terminal, model: Path, tmp_path: Path) -> None:
    model.with_suffix(".onnx").write_text("mine")
    words = ("export", model, "--format", "onnx")
    flag = re.search(r"choose another (--out)", terminal(*words, status=2))[1]
    terminal(*words, flag, tmp_path / "new")
    assert agrees(tmp_path / "new" / "my model.onnx", model) and model.with_suffix(".onnx").read_text() == "mine"


def test_the_command_of_predict_for_a_backend_without_a_file(terminal: Terminal, model: Path, tmp_path: Path) -> None:
    words = ("predict", model, PICTURE, "--backend", "onnxruntime", "--out", tmp_path / "out")
    command = terminal(*words, status=2).partition("; run ")[2].splitlines()[0]
    terminal(*shlex.split(command)[1:])
    assert "backend onnxruntime" in terminal(*words)
    assert agrees(model.with_suffix(".onnx"), model)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the measurements that take seconds."""
    monkeypatch.setattr(
        benchmark_model, "measure_roofline", lambda device, rounds: Roofline({"fp32": 1e11, "bf16": 1e11})
    )
    monkeypatch.setattr(benchmark_model, "peak_memory", lambda file, **options: 2**27)


QUICK = ("--size", "32x32", "--rounds", "1", "--batch-size", "1", "--device", "cpu")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("way", ["leave the backend out", "give the bundle"])
def test_an_export_is_benchmarked_in_its_own_runtime(
    terminal: Terminal, model: Path, exported: Callable[..., Path], way: str
) -> None:
    words = ("benchmark", exported("onnx"), *QUICK, "--backends", "torch")
    text = terminal(*words, status=2)
    assert way in text
    if way == "give the bundle":
        printed = terminal("benchmark", model, *words[2:])
        assert re.search(r"^torch +fp32", printed, re.MULTILINE)
    else:
        runtime = re.search(r"runs in (\w+)", text)[1]
        assert re.search(rf"^{runtime} +fp32", terminal(*followed(words, "--backends", None)), re.MULTILINE)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("option", "wrong", "advice"),
    [
        ("--backends", "torhc", r"did you mean '(torch)'"),
        ("--batch-size", "0", r"must be at least (1)"),
        ("--rounds", "0", r"must be at least (1)"),
        ("--size", "small", r"write height x width in pixels: (512x1024)"),
    ],
)
def test_an_option_of_benchmark(terminal: Terminal, model: Path, option: str, wrong: str, advice: str) -> None:
    words = ("benchmark", model, *QUICK, "--backends", "torch")
    value = re.search(advice, terminal(*followed(words, option, wrong), status=2))[1]
    small = "64x128" if option == "--size" else value  # of the form that is shown
    printed = terminal(*followed(words, option, small))
    assert re.search(r"^torch +fp32", printed, re.MULTILINE)
    assert option != "--size" or small in printed


@pytest.mark.usefixtures("quick")
def test_a_benchmark_that_exists_is_kept_by_another_out(terminal: Terminal, model: Path, tmp_path: Path) -> None:
    words = ("benchmark", model, *QUICK, "--backends", "torch", "--out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "benchmark.json").write_text("mine")
    assert "choose another --out" in terminal(*words, tmp_path / "out", status=2)
    terminal(*words, tmp_path / "new")
    assert (tmp_path / "out" / "benchmark.json").read_text() == "mine"
    assert '"backend": "torch"' in (tmp_path / "new" / "benchmark.json").read_text()


@pytest.mark.usefixtures("quick")
def test_the_forms_that_python_is_shown(model: Path) -> None:
    for wrong, name in (({"size": 64}, "size"), ({"backends": "torch"}, "backends")):
        with pytest.raises(ValueError, match="such as") as caught:
            ps.benchmark_model(model, **wrong)
        value = eval(re.search(r"such as (.+)$", str(caught.value))[1])
        right = {"size": (32, 32), "backends": ["torch"], "rounds": 1, "batch_size": 1, "device": "cpu"}
        assert type(value) is type(right[name])
        right[name] = right[name] if name == "size" else value
        result = ps.benchmark_model(model, **right)
        assert {row.backend for row in result.rows} == {"torch"}
