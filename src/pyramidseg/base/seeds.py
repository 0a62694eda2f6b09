"""Seeds: every random choice is a function of its position, so that a step can be repeated and a run resumed."""

import hashlib


def position_seed(*position: int | str) -> int:
    """A 63-bit seed from a position such as ("dropout", seed, step, rank).

    It is a cryptographic hash, so that neighbouring positions have unrelated seeds.
    """
    digest = hashlib.sha256("/".join(map(str, position)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
