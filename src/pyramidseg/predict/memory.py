"""How much memory a network needs for a pixel.

It is counted rather than measured: the network runs once on the meta device, where tensors have sizes and no
values, while what is alive is added up. For resnet18, resnet50, efficientnet_b0 and convnext_tiny the result is 3 to
17 % below what a process really grows by (the convolutions' own scratch memory is missing), whence `USABLE_SHARE`.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyramidseg.model.segmenter import Segmenter

USABLE_SHARE = 0.5
"""Of the free memory: the rest is for scratch memory, fragments, images that wait, and other programs."""

_SAMPLE_PX = 512


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
