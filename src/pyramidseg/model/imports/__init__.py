"""Checkpoints of other libraries as our models, with equal logits.

An importer reads a checkpoint without running code from it, finds what network it is, and gives every tensor its place.
What it cannot place, or cannot reproduce exactly, it refuses by name: nothing is loaded half.
"""

from collections.abc import Callable
from pathlib import Path

from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.model.imports.foreign_checkpoint import Choices, Imported
from pyramidseg.model.imports.smp.importer import import_smp

Importer = Callable[[Path, Choices], Imported]

IMPORTERS: dict[str, Importer] = {"smp": import_smp}
"""Importer by the name of its library."""

NOT_YET = ("mmseg",)
"""Libraries whose Feature Pyramid Networks our settings can express, but whose checkpoints nobody reads yet."""


def import_checkpoint(path: str | Path, *, library: str, choices: Choices | None = None) -> Imported:
    """The model of a foreign checkpoint, with what is to be known of it.

    Args:
        library: a key of `IMPORTERS`.
        choices: what the checkpoint itself cannot say.

    Raises:
        ConfigError: a library that cannot be read, or choices that contradict the checkpoint.
        WeightsError: no such file, damaged, another network, or tensors that do not fit (all of them are named).
    """
    if library in NOT_YET:
        raise ConfigError(f"--from {library}: not yet; possible: {', '.join(IMPORTERS)}")
    if library not in IMPORTERS:
        raise ConfigError(f"--from {library}: no such library; {nearest(library, IMPORTERS)}")
    return IMPORTERS[library](Path(path), choices or Choices())
