"""How much memory a prediction takes at its peak, in a process of its own: what was used before it does not count.

`python -m pyramidseg.studies.process_memory MODEL HEIGHT WIDTH DEVICE BACKEND PRECISION` prints bytes.
"""

import importlib
import importlib.util
import resource
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
from pyramidseg.studies.benchmark_images import taken_dtype


def peak_memory(
    model: Path,
    *,
    height: int,
    width: int,
    device: torch.device,
    backend: str = "torch",
    precision: RunPrecision = "auto",
) -> int:
    """Bytes that a model and its prediction of one image of (height, width) take at their peak.

    What counts is said in `peak_growth`; what it takes to import torch and the runtimes does not.

    Args:
        model, backend, precision: as `make_backend` takes them.

    Raises:
        TrainingError: the process failed, for want of memory for instance.
    """
    arguments = (model, height, width, device, backend, precision)
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", __name__, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"{model}: measuring its memory at {height}x{width} failed: {last}")
    return int(done.stdout)


def peak_growth(work: Callable[[], object], device: torch.device) -> int:
    """Bytes by which this process grows at the peak of `work`, over what it held before.

    On a GPU torch's allocator counts, or what another runtime leaves less of the GPU's free memory (so that nothing
    else should run there); on a CPU the process's resident memory.
    """
    if device.type != "cuda":
        before = _forget_peak()
        work()
        return _peak() - before
    torch.zeros(1, device=device)  # what CUDA itself takes is no model's
    torch.cuda.reset_peak_memory_stats(device)
    before, free = torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)[0]
    work()
    torch.cuda.synchronize(device)
    by_torch = torch.cuda.max_memory_allocated(device) - before
    return by_torch or free - torch.cuda.mem_get_info(device)[0]


def import_runtimes() -> None:
    """Import whatever runtimes are installed, so that they are not counted as a model's memory."""
    for name in (library for backend in EXPORTED.values() for library in backend.libraries):
        if importlib.util.find_spec(name):
            importlib.import_module(name)


def _measure(model: Path, height: int, width: int, device: torch.device, backend: str, precision: RunPrecision) -> int:
    import_runtimes()
    use_available_processors()

    def predict() -> None:
        ready = make_backend(model, backend, device=device, precision=precision)
        image = torch.zeros(1, ready.in_channels, height, width, dtype=taken_dtype(ready))
        predict_labels(ready, image)

    return peak_growth(predict, device)


def _forget_peak() -> int:
    """Bytes resident now; where the system can (Linux), the peak begins anew from here."""
    if not _STATUS.exists():
        return _peak()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _kilobytes("VmRSS") * 1024


def _peak() -> int:
    """Bytes of this process's largest resident memory since `_forget_peak`, or since it began."""
    if _STATUS.exists():
        return _kilobytes("VmHWM") * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _kilobytes(name: str) -> int:
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


_STATUS = Path("/proc/self/status")


if __name__ == "__main__":
    name, height_px, width_px, device_name, backend_name, precision_name = sys.argv[1:]
    precision = cast(RunPrecision, precision_name)
    print(_measure(Path(name), int(height_px), int(width_px), torch.device(device_name), backend_name, precision))  # noqa: T201
