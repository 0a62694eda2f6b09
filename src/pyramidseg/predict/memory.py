"""Memory: how much is free, and how much a network needs for a pixel.

The need is counted rather than measured: the network runs once on the meta device, where tensors have sizes and no
values, while what is alive is added up. For resnet18, resnet50, efficientnet_b0 and convnext_tiny the result is 3 to
17 % below what a process really grows by (the convolutions' own scratch memory is missing), whence `USABLE_SHARE`.
"""

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyramidseg.model.segmenter import Segmenter

USABLE_SHARE = 0.5
"""Of the free memory: the rest is for scratch memory, fragments, images that wait, and other programs."""

UNKNOWN_TOTAL_BYTES = 4 * 2**30
"""Assumed to be free where the system does not say (Windows)."""

_SAMPLE_PX = 512


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


def bytes_per_pixel(network: Segmenter) -> float:
    """Memory that a pixel of an image takes at the peak of `coarse_logits` in float32, the weights aside.

    Args:
        network: on the meta device (`skeleton`).
    """
    image = torch.empty(1, network.settings.in_channels, _SAMPLE_PX, _SAMPLE_PX, dtype=torch.uint8, device="meta")
    with torch.inference_mode(), _LiveBytes() as live:
        network.coarse_logits(image)
    return float(live.peak / _SAMPLE_PX**2)


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operators make, and takes off those that go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._known:
                self._known.add(storage)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._gone, storage.nbytes())
        return result

    def _gone(self, size: int) -> None:
        self.live -= size
