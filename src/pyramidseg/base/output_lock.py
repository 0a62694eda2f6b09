"""One process at a time for each output folder."""

import contextlib
import functools
import inspect
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.files import explained_writes, folders_created, remove_leftovers

P = ParamSpec("P")
R = TypeVar("R")

LOCK = ".pyramidseg.lock"
"""End of the name of every lock file; the whole name of that of a folder. The file exists while it is locked."""

SHARD = ".shard-"
"""Beginning of the name of a shard's lock file."""


@contextlib.contextmanager
def locked(out: Path, *, shard: str = "", file: str = "") -> Iterator[None]:
    """Keep other processes from writing to an output folder within the `with` block, and delete what killed ones left.

    The operating system ends the lock with the process, so that a killed one blocks nobody. On a network file system it
    holds between machines if the file system passes locks on (NFS 4, Lustre with `flock`, SMB). The folder is created,
    and removed again if nothing was written.

    Args:
        shard: name of one of several processes that share the folder: only the same shard, and a process without a
            shard, are kept out.
        file: name of the only file in the folder that is written: only processes that write it, too, are kept out.

    Raises:
        OutputError: another process uses the folder, or it cannot be written.
        ConfigError: this process is still importing the script of its parent; see `refuse_before_main`.
    """
    refuse_before_main()
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file, but a folder is needed; choose another `out`")
    own = out / (f"{SHARD}{shard}{LOCK}" if shard else f".{file}{LOCK}" if file else LOCK)
    with contextlib.ExitStack() as stack:
        lock = _acquire(own, stack)
        try:
            others = [out / LOCK] if shard else [] if file else list(out.glob(f"{SHARD}*{LOCK}"))
            for other in others:
                if other.exists():
                    with contextlib.ExitStack() as probe:
                        _remove(_acquire(other, probe))
            if not shard:
                remove_leftovers(out, name=file or "*")
            yield
        finally:
            _remove(lock)


def locks_out(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function with an argument `out`: it runs while the folder is `locked`, unless `out` is None."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        out = signature.bind(*args, **kwargs).arguments.get("out")
        with locked(Path(out)) if out is not None else contextlib.nullcontext():
            return function(*args, **kwargs)

    return run


def refuse_before_main() -> None:
    """Refuse to work in a process that is being started and imports the script of its parent.

    Where processes are not forked (macOS, Windows, Python 3.14), the workers that load images import the script that
    started them: without a guard, each of them would do all of its work again.

    Raises:
        ConfigError: it shows the guard.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.tracebacklimit = 0  # this line is all that the process has to say
        raise ConfigError(MAIN_GUARD)


MAIN_GUARD = (
    "worker processes import the script that starts them and would run it again: put its calls into a function, and "
    'call that under `if __name__ == "__main__":`'
)


def is_lock(path: Path) -> bool:
    """Whether a path has the name of a lock file."""
    return path.name.endswith(LOCK)


def _acquire(path: Path, stack: contextlib.ExitStack) -> FileLock:
    """Lock a file, which is created with its folder, until the stack is closed.

    Raises:
        OutputError: another process has locked it.
    """
    lock = FileLock(path, timeout=0, thread_local=False)
    stack.enter_context(folders_created(path.parent))
    try:
        with explained_writes(path.parent):
            stack.enter_context(lock)
    except Timeout:
        raise OutputError(
            f"{path.parent}: is in use by another pyramidseg process; wait until it has ended, or choose another `out`"
        ) from None
    except FileNotFoundError:  # a process that wrote nothing has just removed the folder
        return _acquire(path, stack)
    return lock


def _remove(lock: FileLock) -> None:
    """Delete a file that this process has locked; a process that waits for it notices, and makes a new one."""
    with contextlib.suppress(OSError):
        Path(lock.lock_file).unlink()
