"""RAM cache of decoded image-mask pairs, used if the training images fit in memory."""

import multiprocessing
from typing import Literal

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.data.pairs import FilePairs, Pair, PairSource

Cache = Literal["auto", "memory", "none"]

AUTO_SHARE = 0.25
"""Share of the free memory that `auto` may use: the model and other programs need the rest."""


class CachedPairs:
    """A `PairSource` that `preload` decodes once. Its arrays are read-only, so forked processes share them."""

    def __init__(self, pairs: FilePairs) -> None:
        self._pairs = pairs
        self._decoded: list[Pair] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Pair:
        return self._decoded[index]

    def preload(self) -> None:
        """Decode all pairs.

        Raises:
            DataError: an image or mask is unreadable.
        """
        decoded = map_in_threads(self._pairs.__getitem__, range(len(self)))
        self._decoded = [_read_only(pair) for pair in track(decoded, total=len(self), task="decoding into memory")]


def cache_if_fits(
    pairs: FilePairs, cache: Cache, *, size_bytes: int, free_bytes: int, workers: int, epochs: int
) -> tuple[PairSource, str]:
    """The pairs for training, cached or not, and a message if they are cached.

    Args:
        size_bytes: of all pairs when decoded.
        free_bytes: memory available to this process.
        workers: loading processes; unless the system forks processes, each has its own copy.

    Raises:
        ConfigError: `memory` is requested and there is too little.
    """
    copies = 1 if multiprocessing.get_start_method() == "fork" else 1 + workers
    needed = size_bytes * copies
    description = f"{len(pairs)} training images take {_gigabytes(needed)} of memory when decoded"
    if cache == "memory" and needed > free_bytes:
        raise ConfigError(
            f"data.cache=memory: {description}, but {_gigabytes(free_bytes)} are free; set data.cache=auto or none"
        )
    if cache == "none" or (cache == "auto" and (needed > AUTO_SHARE * free_bytes or epochs == 1)):
        return pairs, ""
    return CachedPairs(pairs), f"{description} and are cached there (data.cache={cache})"


def _read_only(pair: Pair) -> Pair:
    for array in pair:
        array.flags.writeable = False
    return pair


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2g} GB"
