"""ExecuTorch's own runtime reads our files, and gives the labels of the bundle."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("executorch", reason="make test-clients")

from made_exports import bundle, traced_once
from mobile_checks import check_command, check_outputs

__all__ = ["bundle", "traced_once"]

pytestmark = pytest.mark.filterwarnings("default")  # of the library


def run(file: Path, images: NDArray[np.float32]) -> NDArray[np.generic]:
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(file)
    method = program.load_method("forward")  # holds the memory of its output
    (output,) = method.execute([torch.from_numpy(images)])
    return output.numpy().copy()


def test_its_outputs_are_those_of_the_bundle(bundle: Path, tmp_path: Path) -> None:
    check_outputs("executorch", ".pte", bundle, run, tmp_path)


def test_the_command(bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_command("executorch", ".pte", bundle, tmp_path, capfd)
