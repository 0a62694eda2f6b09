"""How much memory a prediction takes at its peak, in a process of its own: what was used before it does not count.

`python -m pyramidseg.benchmark.memory MODEL HEIGHT WIDTH DEVICE` prints bytes.
"""

import resource
import subprocess
import sys
from pathlib import Path

import torch

from pyramidseg.errors import TrainingError


def peak_memory(model: Path, *, height: int, width: int, device: torch.device) -> int:
    """Bytes that a model and its prediction of one image of (height, width) take at their peak.

    On a GPU torch's allocator counts; on a CPU the process's resident memory, without what importing takes.

    Raises:
        TrainingError: the process failed, for want of memory for instance.
    """
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", __name__, str(model), str(height), str(width), str(device)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TrainingError(f"{model}: measuring its memory at {height}x{width} failed: {last}")
    return int(done.stdout)


def _measure(model: Path, height: int, width: int, device: torch.device) -> int:
    from pyramidseg.predict.backends import TorchBackend

    before = _forget_peak()
    backend = TorchBackend(model, device=device)
    backend(torch.zeros(1, backend.in_channels, height, width, dtype=torch.uint8))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _peak() - before


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
    name, height_px, width_px, device_name = sys.argv[1:]
    print(_measure(Path(name), int(height_px), int(width_px), torch.device(device_name)))  # noqa: T201
