"""A hidden place for a file that nobody may find before it is checked."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyramidseg.base.files import explained_writes, make_folder


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
        try:
            with _locked_folder(target) as folder:
                yield folder / target.name
        finally:
            for empty in made:  # innermost first: folders made for a file that never came
                with contextlib.suppress(OSError):
                    empty.rmdir()


@contextlib.contextmanager
def _locked_folder(target: Path) -> Iterator[Path]:
    """A new folder that is locked, and goes afterwards.

    Until it is locked, another export of this name takes it for that of a killed one: where that has removed it, or is
    about to, which the lock waits for, the next one is made.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        with _locked(folder, how=fcntl.LOCK_EX):
            if not folder.exists():
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder)
            return


def _sweep(target: Path) -> None:
    """Remove what exports of this name left that were killed."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}\.part")  # as mkdtemp makes it
    for folder in target.parent.iterdir():
        if name.fullmatch(folder.name) and folder.is_dir():
            with _locked(folder, how=fcntl.LOCK_EX | fcntl.LOCK_NB) as is_locked:
                if is_locked:
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, *, how: int) -> Iterator[bool]:
    """Lock a folder until this or the process ends; whether that could be done.

    Args:
        how: of `flock`: whether it waits for another process, or leaves what that has locked.
    """
    with contextlib.ExitStack() as stack:
        try:
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, how)
            is_locked = True
        except OSError:  # also where it is gone or another user's, or where the file system has no locks
            is_locked = False
        yield is_locked
