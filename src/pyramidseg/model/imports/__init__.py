"""Importers: checkpoints of other libraries as models with equal logits.

An importer reads a checkpoint without running code from it and maps every tensor to its name in `Segmenter`. A tensor
without a counterpart, or a setting that cannot be reproduced exactly, is an error; nothing is loaded in part. A new
library is one module here with a table of tensor names, and one entry in `IMPORTERS`.
"""

from collections.abc import Callable
from pathlib import Path

from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.model.imports.foreign_checkpoint import ImportedModel, ImportOptions
from pyramidseg.model.imports.smp import import_smp

IMPORTERS: dict[str, Callable[[Path, ImportOptions], ImportedModel]] = {"smp": import_smp}
"""Importer by name of the library."""


def import_checkpoint(path: str | Path, *, library: str, options: ImportOptions | None = None) -> ImportedModel:
    """Convert a checkpoint of another library.

    Args:
        library: a key of `IMPORTERS`.
        options: what the checkpoint itself does not contain, such as the encoder's name.

    Raises:
        ConfigError: an unknown library, or options that are missing or contradict the checkpoint.
        WeightsError: the file does not exist, is damaged, or holds another network (all tensors that differ are named).
    """
    if library not in IMPORTERS:
        raise ConfigError(f"--from {library}: unknown library; {nearest(library, IMPORTERS)}")
    return IMPORTERS[library](Path(path), options or ImportOptions())
