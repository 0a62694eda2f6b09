"""Processors and memory that are available to this process."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_QUOTAS = (
    (Path("/sys/fs/cgroup/cpu.max"),),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)
"""CPU quota and period of a container in microseconds, in both versions of control groups."""


def available_processors() -> int:
    """Number of processors that this process may use: its affinity, or a container's quota if that is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [share for files in _QUOTAS if (share := _share(*files)) is not None]
    return max(1, min([bound, *shares]))


def _share(*files: Path) -> int | None:
    """A container's quota in processors, rounded up; None without a limit."""
    try:
        quota, period = (int(word) for word in " ".join(file.read_text() for file in files).split())
    except (OSError, ValueError):  # absent, or "max"
        return None
    return -(-quota // period) if quota > 0 else None


UNKNOWN_TOTAL_BYTES = 4 * 2**30
"""Assumed free memory on systems that do not report it (Windows)."""


def free_bytes(device: "torch.device") -> int:
    """Free memory of a device, including what torch's allocator has reserved and not used."""
    if device.type == "cuda":
        import torch

        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    limits = (_free_of_group(*files) for files in _CGROUPS)
    return min([_free_of_machine(), *(limit for limit in limits if limit is not None)])


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


_CGROUPS = (
    tuple(Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current", "memory.stat")),
    tuple(
        Path("/sys/fs/cgroup/memory") / name
        for name in ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    ),
)
"""Limit, usage and statistics of a container, in the two versions of control groups."""


def _free_of_group(limit: Path, usage: Path, statistics: Path) -> int | None:
    """Free memory of a container; None without a limit. Cached file pages can be dropped, so they count as free."""
    try:
        fields = dict(line.split() for line in statistics.read_text().splitlines())
        cached = int(fields.get("total_inactive_file", fields.get("inactive_file", "0")))
        return max(1, int(limit.read_text()) - int(usage.read_text()) + cached)
    except (OSError, ValueError):  # absent, or "max"
        return None
