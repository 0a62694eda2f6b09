"""How long calls take, side by side: machines are noisy, so candidates take turns and medians are compared."""

import gc
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Call = Callable[[], object]

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate, round by round.

    Attributes:
        seconds: of the rounds that counted, in their order.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def milliseconds(self) -> float:
        """The median in milliseconds."""
        return 1000 * self.median

    def ratio_to(self, other: "Timing") -> float:
        """Median over rounds of this candidate's time over the other's in the same round: above 1 is slower."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))


def alternate(
    calls: Mapping[Name, Call], *, rounds: int = 15, warmup: int = 3, device: torch.device | None = None
) -> dict[Name, Timing]:
    """Time every call once a round, in an order that turns by one from round to round.

    Args:
        rounds: that count.
        warmup: rounds before them that do not.
        device: waited for after every call where it works asynchronously.
    """
    names = list(calls)
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    for number in range(warmup + rounds):
        for name in _turned(names, number):
            gc.collect()
            _wait(device)
            began = time.perf_counter()
            calls[name]()
            _wait(device)
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return {name: Timing(tuple(found)) for name, found in seconds.items()}


def _turned(names: Sequence[Name], places: int) -> list[Name]:
    places %= len(names)
    return [*names[places:], *names[:places]]


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device is not None and device.type == "mps":
        torch.mps.synchronize()
