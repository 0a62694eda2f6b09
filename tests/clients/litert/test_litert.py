"""LiteRT's own interpreter reads our files, and gives the labels of the bundle."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("litert_torch", reason="make test-clients")

from made_exports import bundle, traced_once
from mobile_checks import check_command, check_outputs

__all__ = ["bundle", "traced_once"]

pytestmark = pytest.mark.filterwarnings("default")  # of the library


def run(file: Path, images: NDArray[np.float32]) -> NDArray[np.generic]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    (output,) = interpreter.get_output_details()
    return interpreter.get_tensor(output["index"])


def test_its_outputs_are_those_of_the_bundle(bundle: Path, tmp_path: Path) -> None:
    check_outputs("litert", ".tflite", bundle, run, tmp_path)


def test_the_command(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_command("litert", ".tflite", bundle, tmp_path, capfd)
