"""Models that are loaded, or used, before the process is forked, as gunicorn does with --preload."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import pyramidseg as ps
from forks import run_python
from made_exports import bundle, exported, traced_once
from support import process_environment, tiny_segmenter

__all__ = ["bundle", "exported", "traced_once"]

SCRIPT = """
import os, signal, sys
import numpy as np
import torch
import pyramidseg as ps

torch.set_num_threads(2)
image = np.random.default_rng(0).integers(0, 255, (128, 160, 3), dtype=np.uint8)
predictor = ps.Predictor(sys.argv[1], backend=sys.argv[2])
expected = None
for _ in ("loaded", "has predicted"):
    reading, writing = os.pipe()
    if os.fork() == 0:
        signal.alarm(90)
        assert torch.get_num_threads() == 1
        os.write(writing, predictor.predict(image).labels.tobytes())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:
        labels = stream.read()
    _, status = os.wait()
    assert status == 0, status
    expected = predictor.predict(image).labels.tobytes()
    assert labels == expected
    assert len(set(labels)) > 1
    assert torch.get_num_threads() == 2
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    ("backend", "format"),
    [("torch", None), ("torch-exported", "torch"), ("onnxruntime", "onnx"), ("openvino", "openvino")],
)
def test_forked_processes_predict_as_their_parent_does(
    bundle: Path, exported: Callable[[str], Path], backend: str, format: str | None
) -> None:
    path = bundle
    if format is not None:
        pytest.importorskip(backend.partition("-")[0])
        path = exported(format)
    environment = {**process_environment(), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "2"}
    done = run_python("-c", SCRIPT, path, backend if format else "torch", environment=environment, timeout=200)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


def test_a_model_on_a_gpu_is_refused_in_a_forked_process() -> None:
    backend = ps.Predictor(tiny_segmenter(), device="cpu").backend
    backend.place, backend._process = "cuda:0", -1  # type: ignore[attr-defined]
    with pytest.raises(
        ps.DeviceError, match=r"`device=cuda:0`: the model was loaded before .* load it in each process"
    ):
        backend.continue_after_fork()  # type: ignore[attr-defined]
