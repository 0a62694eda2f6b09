"""A hidden folder for an exported file that is not checked yet."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyramidseg.base.files import explained_writes, make_folder


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A path with the target's name in a temporary folder next to it, which is removed at the end of the `with` block.

    In the same file system, so that a finished file can be renamed to the target. Folders created for the target are
    removed as well if they stay empty.

    Raises:
        OutputError: the folder cannot be created or written.
    """
    created = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    with explained_writes(target):
        make_folder(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        try:
            yield folder / target.name
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            for empty in created:  # innermost first
                with contextlib.suppress(OSError):
                    empty.rmdir()
