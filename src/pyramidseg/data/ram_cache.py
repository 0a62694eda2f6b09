"""RAM cache of decoded image-mask pairs, used if the training images fit in memory."""

from typing import Any, Literal

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.data.pairs import FilePairs, Pair, PairSource

Cache = Literal["auto", "memory", "none"]

AUTO_SHARE = 0.25
"""Share of the free memory that `auto` may use: the model and other programs need the rest."""


class CachedPairs:
    """A `PairSource` that decodes each pair once: all in `preload`, else when it is first asked for.

    Its arrays are read-only, so that forked processes share them. It is pickled without them.
    """

    def __init__(self, pairs: FilePairs) -> None:
        self._pairs = pairs
        self._decoded: dict[int, Pair] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_pairs": self._pairs, "_decoded": {}}

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Pair:
        if index not in self._decoded:
            self._decoded[index] = _read_only(self._pairs[index])
        return self._decoded[index]

    def preload(self) -> None:
        """Decode all pairs.

        Raises:
            DataError: an image or mask is unreadable.
        """
        decoded = map_in_threads(self._pairs.__getitem__, range(len(self)))
        tracked = track(decoded, total=len(self), task="decoding into memory")
        self._decoded = {index: _read_only(pair) for index, pair in enumerate(tracked)}


def cache_if_fits(
    pairs: FilePairs, cache: Cache, *, size_bytes: int, free_bytes: int, copies: int, epochs: int
) -> tuple[PairSource, str]:
    """The pairs for training, cached or not, and a message if they are cached.

    Args:
        size_bytes: of all pairs when decoded.
        free_bytes: memory available to this process.
        copies: number of processes that have a cache of their own.

    Raises:
        ConfigError: `memory` is requested and there is too little.
    """
    needed = size_bytes * copies
    description = f"{len(pairs)} training images take {readable_size(needed)} of memory when decoded"
    if cache == "memory" and needed > free_bytes:
        raise ConfigError(
            f"data.cache=memory: {description}, but {readable_size(free_bytes)} are free; set data.cache=auto or none"
        )
    if cache == "none" or (cache == "auto" and (needed > AUTO_SHARE * free_bytes or epochs == 1)):
        return pairs, ""
    return CachedPairs(pairs), f"{description} and are cached there (data.cache={cache})"


def _read_only(pair: Pair) -> Pair:
    for array in pair:
        array.flags.writeable = False
    return pair


def readable_size(size_bytes: int) -> str:
    """A size in kB, MB or GB, with at least two digits."""
    unit, scale = ("GB", 1e9) if size_bytes >= 1e9 else ("MB", 1e6) if size_bytes >= 1e6 else ("kB", 1e3)
    size = size_bytes / scale
    return f"{size:.2g} {unit}" if size < 10 else f"{size:.0f} {unit}"
