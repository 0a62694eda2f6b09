"""The sentence on the backend that `--backend auto` selects."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pyramidseg.studies.benchmark_model import explain_auto

BUNDLE = Path("runs/best.safetensors")


@pytest.mark.parametrize(
    ("model", "name", "device", "note", "sentence"),
    [
        (
            BUNDLE, "torch", "cpu", "",
            "auto selects torch: no exported model next to the bundle (preferred: openvino, onnxruntime)",
        ),
        (BUNDLE, "openvino", "cpu", "best.xml", "auto selects openvino: best.xml"),
        (
            BUNDLE, "torch", "cpu", "best.xml is not used, as it is in fp16",
            "auto selects torch: best.xml is not used, as it is in fp16",
        ),
        (BUNDLE, "torch", "cuda", "", "auto selects torch: the default on a GPU"),
        (
            Path("best.onnx"), "onnxruntime", "cpu", "best.onnx",
            "auto selects onnxruntime: the runtime in which the export was checked",
        ),
    ],
)  # fmt: skip
def test_the_reason_is_that_of_make_backend(model: Path, name: str, device: str, note: str, sentence: str) -> None:
    selected = SimpleNamespace(name=name, device=torch.device(device), note=note)
    assert explain_auto(model, selected) == sentence  # type: ignore[arg-type]
