"""Processors and memory that are available to this process."""

import ctypes
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CONTROL_GROUP = Path("/sys/fs/cgroup")
"""The limits of a container (control groups, version 2)."""


def available_processors() -> int:
    """Number of processors that this process may use: its affinity, or a container's quota if that is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (int(word) for word in (_CONTROL_GROUP / "cpu.max").read_text().split())  # microseconds
    except (OSError, ValueError):  # absent, or "max"
        return bound
    return max(1, min(bound, -(-quota // period)))


_ALLOCATOR = {-4: 0, -1: 2**31 - 1, -8: 1}
"""glibc's parameters M_MMAP_MAX, M_TRIM_THRESHOLD and M_ARENA_MAX."""


def keep_freed_memory() -> None:
    """Let glibc's allocator keep freed memory for the next allocations.

    By default it returns freed blocks above 32 MiB to the system, which clears every page when they are allocated
    again: for large activations that takes up to a third of the processor time (`benchmarks/allocator.py`). All
    threads share one arena, because the others cannot hold such large blocks. Call it before the first thread is
    started. It does nothing if the environment configures the allocator, or if the allocator is not glibc's.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):  # musl has none
        for parameter, value in _ALLOCATOR.items():
            library.mallopt(parameter, value)


UNKNOWN_TOTAL_BYTES = 4 * 2**30
"""Assumed free memory on systems that do not report it (Windows)."""


def free_bytes(device: "torch.device") -> int:
    """Free memory of a device, including what torch's allocator has reserved and not used."""
    if device.type == "cuda":
        import torch

        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    of_machine, of_group = _free_of_machine(), _free_of_group(_CONTROL_GROUP)
    return of_machine if of_group is None else min(of_machine, of_group)


def _free_of_machine(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory available without swapping: the kernel's estimate, else half of the installed memory."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return UNKNOWN_TOTAL_BYTES


def _free_of_group(group: Path) -> int | None:
    """Free memory of a container; None without a limit. Cached file pages can be dropped, so they count as free."""
    try:
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        return max(1, limit - used + int(fields.get("inactive_file", "0")))
    except (OSError, ValueError):  # absent, or "max"
        return None
