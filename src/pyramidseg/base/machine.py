"""How many processors there are for this process."""

import os
from pathlib import Path

import torch

_QUOTAS = (
    (Path("/sys/fs/cgroup/cpu.max"),),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)
"""Microseconds that a container may compute, and in which time, in the two versions of control groups."""


def available_processors() -> int:
    """Processors that this process may use: those it is bound to, or a container's share where that is less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [share for files in _QUOTAS if (share := _share(*files)) is not None]
    return max(1, min([bound, *shares]))


def _share(*files: Path) -> int | None:
    """Whole processors of a container's share; None where it has no limit."""
    try:
        quota, period = (int(word) for word in " ".join(file.read_text() for file in files).split())
    except (OSError, ValueError):  # absent, or "max"
        return None
    return -(-quota // period) if quota > 0 else None


# How much memory is free: of the machine, of the container, of a GPU.

UNKNOWN_TOTAL_BYTES = 4 * 2**30
"""Assumed to be free where the system does not say (Windows)."""


def free_bytes(device: torch.device) -> int:
    """Memory that can be had on a device, torch's own reserve included."""
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    limits = (_free_of_group(*files) for files in _CGROUPS)
    return min([_free_of_machine(), *(limit for limit in limits if limit is not None)])


def _free_of_machine(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What programs can get without swapping: the kernel's own estimate, else half of what there is."""
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
    """What a container may still use; None without a limit. Cached file pages can be dropped, so they are free."""
    try:
        fields = dict(line.split() for line in statistics.read_text().splitlines())
        cached = int(fields.get("total_inactive_file", fields.get("inactive_file", "0")))
        return max(1, int(limit.read_text()) - int(usage.read_text()) + cached)
    except (OSError, ValueError):  # absent, or "max"
        return None
