"""Decoded pairs held in memory, for datasets that fit: what no epoch decodes again."""

import multiprocessing
from typing import Literal

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import in_threads
from pyramidseg.data.pairs import FilePairs, Pair, PairSource

Cache = Literal["auto", "memory", "none"]

AUTO_SHARE = 0.25
"""Of the free memory that `auto` may fill: the model and other programs need theirs."""


class CachedPairs:
    """PairSource that `load` decodes once. They are read-only, so that processes that are forked share them."""

    def __init__(self, pairs: FilePairs) -> None:
        self._pairs = pairs
        self._held: list[Pair] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Pair:
        return self._held[index]

    def load(self) -> None:
        """Decode all of them.

        Raises:
            DataError: one of them cannot be read.
        """
        decoded = in_threads(self._pairs.__getitem__, range(len(self)))
        self._held = [_read_only(pair) for pair in track(decoded, total=len(self), task="decoding into memory")]


def cache_if_fits(
    pairs: FilePairs, cache: Cache, *, size: int, free: int, workers: int, epochs: int
) -> tuple[PairSource, str]:
    """The pairs as training reads them, and a note on it.

    Args:
        size: bytes of all pairs when decoded.
        free: bytes of memory that this process may count on.
        workers: loading processes, each of which has its own copy where the system does not fork.

    Raises:
        ConfigError: `memory` is asked for and there is too little.
    """
    copies = 1 if multiprocessing.get_start_method() == "fork" else 1 + workers
    needed = size * copies
    describe = f"{len(pairs)} training images take {_gigabytes(needed)} of memory when decoded"
    if cache == "memory" and needed > free:
        raise ConfigError(f"data.cache=memory: {describe} and {_gigabytes(free)} are free; choose auto or none")
    if cache == "none" or (cache == "auto" and (needed > AUTO_SHARE * free or epochs == 1)):
        return pairs, ""
    return CachedPairs(pairs), f"{describe}, and are kept there (data.cache={cache})"


def _read_only(pair: Pair) -> Pair:
    for array in pair:
        array.flags.writeable = False
    return pair


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB"
