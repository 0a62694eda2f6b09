"""A hidden place for a file that nobody may find before it is checked."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyramidseg.files import explained_writes, make_folder


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A path of the target's name in a hidden folder beside it, from which whatever is to be kept has to be moved.

    The folder goes in any case. That of a process which was killed goes with the next export of its name: a folder is
    locked for as long as its process lives.

    Raises:
        OutputError: nothing can be written there.
    """
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    with explained_writes(target):
        make_folder(target.parent)
        _sweep(target)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        with explained_writes(target), _locked(folder):
            yield folder / target.name
    finally:
        shutil.rmtree(folder)
        for empty in made:  # innermost first: folders made for a file that never came
            with contextlib.suppress(OSError):
                empty.rmdir()


def _sweep(target: Path) -> None:
    """Remove what exports of this name left that were killed."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.part")  # as mkdtemp makes it
    for folder in target.parent.iterdir():
        if name.fullmatch(folder.name) and folder.is_dir():
            with _locked(folder) as is_locked:
                if is_locked:
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder until this or the process ends; whether that could be done and no other process has locked it."""
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except OSError:  # also where it is another user's, or where the file system has no locks
            is_locked = False
        yield is_locked
