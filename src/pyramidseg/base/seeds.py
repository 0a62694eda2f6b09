"""Seeds: every random choice is a function of its position, so that a step can be repeated and a run resumed."""

import hashlib
from contextlib import AbstractContextManager

import torch


def position_seed(*position: int | str) -> int:
    """A 63-bit seed from a position such as ("dropout", seed, step, rank).

    It is a cryptographic hash, so that neighbouring positions have unrelated seeds.
    """
    digest = hashlib.sha256("/".join(map(str, position)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def own_randomness() -> AbstractContextManager[None]:
    """In it, torch's global generators may be seeded; afterwards they are as the caller left them."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    return torch.random.fork_rng(devices)
