"""How many processors there are for this process."""

import os
from pathlib import Path

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
