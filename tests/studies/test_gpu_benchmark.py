"""benchmarks.gpu without a GPU: its list of wheels, its parts' limits, and what it writes when a part fails."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.wheels import closure, missing, read_lock, wheels


def test_the_wheels_are_pinned_with_their_dependencies_but_not_those_of_the_machine() -> None:
    lines = wheels().splitlines()
    names = {line.split("==")[0] for line in lines if "==" in line}
    assert {"tifffile", "pydantic-core", "pytest", "segmentation-models-pytorch", "onnxscript", "onnx-ir"} <= names
    assert not {"torch", "torchvision", "timm", "triton", "sphinx"} & names
    assert not any(name.startswith("nvidia-") for name in names)
    assert lines[-1].startswith("# tensorrt, not pinned")
    assert all("==" in line or line.startswith("#") for line in lines)


def test_dependencies_of_the_machines_own_packages_are_left_out() -> None:
    lock = (
        "a==1 \\\n    --hash=sha256:0\n    # via\n    #   torch\nb==2 ; python_full_version < '3.12' \\\n    # via c\n"
    )
    pinned, parents = read_lock(lock + "b==3 \\\n    # via c\n")
    assert pinned == {"a": ["a==1"], "b": ["b==2 ; python_full_version < '3.12'", "b==3"]}
    assert closure(["c", "torch"], parents) == {"b", "c"}


def test_a_missing_package_is_named_with_its_part() -> None:
    assert [name for name in missing() if name != "tensorrt (for tensorrt)"] == []


def test_every_part_has_a_limit() -> None:
    assert set(gpu.MINUTES) == PARTS.keys() - {"machine"}
    assert sum(gpu.MINUTES.values()) <= 15


def test_results_are_written_whatever_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def part(name: str, options: argparse.Namespace, *, minutes: float) -> dict[str, Any]:
        answers = {"machine": {"machine": "a card"}, "rates": {"failed": "MissingExtra: onnx\nsecond line"}}
        return answers.get(name, {"figure": 1})

    monkeypatch.setattr(gpu, "run_part", part)
    with pytest.raises(SystemExit, match="failed: rates"):
        gpu.main(["--out", str(tmp_path), "--only", "rates,tests"])
    text = (tmp_path / "results.md").read_text()
    assert "a card" in text and "MissingExtra: onnx" in text and "- figure: 1" in text
    gpu.main(["--out", str(tmp_path), "--only", "tests,memory", "--minutes", "0.1"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["tests"]["figure"] == 1  # what was found before is kept
    assert "1.5 minutes, and 0.1 were left" in results["memory"]["not run"]


@pytest.mark.slow
def test_a_part_is_ended_at_its_limit(tmp_path: Path) -> None:
    options = argparse.Namespace(out=tmp_path, device="cpu", camvid=None)
    assert "no end after 0.0 minutes" in gpu.run_part("rates", options, minutes=0.01)["failed"]
