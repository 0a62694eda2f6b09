"""On-disk cache of small results, keyed by a digest of their inputs.

It is in the user's cache folder: `$XDG_CACHE_HOME/pyramidseg`, or its counterpart on macOS and Windows. The environment
variable PYRAMIDSEG_CACHE names another folder, or disables the cache (`off`).
"""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from pyramidseg.base.files import remove_leftovers, write_text
from pyramidseg.base.version import __version__

logger = logging.getLogger(__name__)

T = TypeVar("T")

VARIABLE = "PYRAMIDSEG_CACHE"
OFF = ("off", "0", "no", "false")


@dataclass(frozen=True)
class ResultCache:
    """Results of earlier runs.

    Attributes:
        folder: where they are stored; None disables the cache.
    """

    folder: Path | None = None

    def get_or_compute(
        self,
        name: str,
        kind: type[T],
        *,
        content: Callable[[], str],
        compute: Callable[[], T],
    ) -> T:
        """Return the result that this version computed earlier from the same content; otherwise compute and store it.

        A corrupt entry is recomputed with a warning; if the folder cannot be written, there is only a warning.

        Args:
            name: one file is kept for each; a result for new content replaces the old one.
            kind: type of the result, such as a dataclass, which pydantic converts to JSON and back.
            content: digest of everything that the result depends on; not called if the cache is disabled.
        """
        if self.folder is None:
            return compute()
        file, key = self.folder / f"{digest([name])[:32]}.json", f"{__version__} {content()}"
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            if digest([json.dumps(stored["value"])]) != stored["sum"]:
                raise ValueError("wrong checksum")
            if stored["content"] == key:
                return TypeAdapter(kind).validate_python(stored["value"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning(f"{file}: cache entry is corrupt ({type(error).__name__}: {error}); recomputing")
        result = compute()
        value = TypeAdapter(kind).dump_python(result, mode="json")
        try:
            remove_leftovers(self.folder)
            write_text(file, json.dumps({"content": key, "value": value, "sum": digest([json.dumps(value)])}) + "\n")
        except OSError as error:
            logger.warning(f"cannot write the cache ({error}); continuing without it (set {VARIABLE}=off to hide this)")
        return result


def user_cache() -> ResultCache:
    """The cache of the user who runs the program."""
    setting = os.environ.get(VARIABLE, "")
    if setting:
        return ResultCache(None if setting.lower() in OFF else Path(setting))
    try:
        home = Path.home()
    except RuntimeError:  # a container's user without a home
        return ResultCache(None)
    if sys.platform == "win32":
        return ResultCache(Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pyramidseg" / "Cache")
    if sys.platform == "darwin":
        return ResultCache(home / "Library" / "Caches" / "pyramidseg")
    return ResultCache(Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "pyramidseg")


def digest(parts: Iterable[object]) -> str:
    """SHA-256 (hexadecimal) of the `repr` of the parts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(repr(part).encode() + b"\n")
    return total.hexdigest()


def file_state(path: Path) -> tuple[str, int, int, int]:
    """Path, size, and mtime and ctime in nanoseconds; -1 for a missing file.

    ctime (on Windows the time of creation) also changes where a copy restored mtime.
    """
    try:
        state = path.stat()
    except OSError:
        return str(path), -1, -1, -1
    return str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns
