"""A hidden folder for an exported file that is not checked yet."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pyramidseg.base.files import explained_writes, temporary_folder


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A path with the target's name in a temporary folder next to it, which is removed at the end of the `with` block.

    In the same file system, so that a finished file can be renamed to the target.

    Raises:
        OutputError: the folder cannot be created or written.
    """
    with explained_writes(target), temporary_folder(target) as folder:
        yield folder / target.name
