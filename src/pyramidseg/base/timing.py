"""Timing of alternatives in alternating rounds: machines are noisy, so they take turns and medians are compared."""

import gc
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

Call = Callable[[], object]

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Times of one call.

    Attributes:
        seconds: of each round, without warm-up.
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
        """Median of the ratios of this time to the other's in the same round; above 1 is slower."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))


def alternate(
    calls: Mapping[Name, Call], *, rounds: int = 15, warmup: int = 3, device: torch.device | None = None
) -> dict[Name, Timing]:
    """Time every call once per round, in an order that rotates by one from round to round.

    Args:
        rounds: number of timed rounds.
        warmup: number of rounds before these, which are not timed.
        device: synchronised before and after every call.
    """
    names = list(calls)
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # keeps collections from visiting what exists already: torch alone is 0.2 s of each
    try:
        for number in range(warmup + rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                gc.collect()
                _synchronize(device)
                started = time.perf_counter()
                calls[name]()
                _synchronize(device)
                if number >= warmup:
                    seconds[name].append(time.perf_counter() - started)
    finally:
        gc.unfreeze()
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _synchronize(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device is not None and device.type == "mps":
        torch.mps.synchronize()
