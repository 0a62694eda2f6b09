"""Peak memory of a prediction, measured in a separate process, without what was allocated before it.

`python -m pyramidseg.studies.process_memory MODEL HEIGHT WIDTH DEVICE BACKEND PRECISION AS_WRITTEN` prints bytes.
"""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from pyramidseg.backends import EXPORTED, RunPrecision, make_backend
from pyramidseg.base.errors import TrainingError
from pyramidseg.predict.pipeline import use_available_processors
from pyramidseg.predict.segmentation import predict_labels
from pyramidseg.studies.benchmark_images import to_input_dtype


def peak_memory(
    model: Path,
    *,
    height: int,
    width: int,
    device: torch.device,
    backend: str = "torch",
    precision: RunPrecision = "auto",
    as_written: bool = False,
) -> int:
    """Peak memory in bytes of loading a model and predicting one image of (height, width).

    As in `peak_growth`; torch and the runtimes are imported before and do not count.

    Args:
        model, backend, precision, as_written: arguments of `make_backend`.

    Raises:
        TrainingError: the process failed, for instance for lack of memory.
    """
    arguments = (model, height, width, device, backend, precision, int(as_written))
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"{model}: measuring its memory at {height}x{width} failed: {last}")
    return int(done.stdout)


def peak_growth(work: Callable[[], object], device: torch.device) -> int:
    """Peak memory of this process during `work`, in bytes, minus the memory before it.

    On a GPU, memory of torch's allocator, or for another runtime the decrease of the GPU's free memory (so nothing else
    should run there); on a CPU, resident memory of the process.
    """
    if device.type != "cuda":
        before = _reset_peak()
        work()
        return _peak() - before
    torch.zeros(1, device=device)  # initialises CUDA, whose own memory does not count
    torch.cuda.reset_peak_memory_stats(device)
    before, free = torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)[0]
    work()
    torch.cuda.synchronize(device)
    by_torch = torch.cuda.max_memory_allocated(device) - before
    return by_torch or free - torch.cuda.mem_get_info(device)[0]


def import_runtimes() -> None:
    """Import all installed runtimes, so that they do not count as memory of the model."""
    for name in (library for backend in EXPORTED.values() for library in backend.libraries):
        if importlib.util.find_spec(name):
            importlib.import_module(name)


def _measure(
    model: Path,
    height: int,
    width: int,
    device: torch.device,
    backend: str,
    precision: RunPrecision,
    as_written: bool,
) -> int:
    import_runtimes()
    use_available_processors()

    def predict() -> None:
        opened = make_backend(model, backend, device=device, precision=precision, as_written=as_written)
        image = torch.zeros(1, opened.in_channels, height, width, dtype=torch.uint8)
        predict_labels(opened, to_input_dtype(image, opened))

    return peak_growth(predict, device)


def _reset_peak() -> int:
    """Resident memory in bytes; on Linux, the peak is reset to it."""
    if not _STATUS.exists():
        return _peak()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _kilobytes("VmRSS") * 1024


def _peak() -> int:
    """Peak resident memory in bytes since `_reset_peak` (Linux), or since the process started."""
    if _STATUS.exists():
        return _kilobytes("VmHWM") * 1024
    import resource  # not available on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kilobytes(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


_STATUS = Path("/proc/self/status")


if __name__ == "__main__":
    name, height_px, width_px, device_name, backend_name, precision_name, as_written = sys.argv[1:]
    precision = cast(RunPrecision, precision_name)
    how = torch.device(device_name), backend_name, precision, as_written == "1"
    print(_measure(Path(name), int(height_px), int(width_px), *how))  # noqa: T201
