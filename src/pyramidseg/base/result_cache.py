"""What is remembered from one run to the next: small results, each with a digest of all that it was computed from.

They lie in the user's cache folder: `$XDG_CACHE_HOME/pyramidseg`, or what macOS and Windows have for that. The variable
PYRAMIDSEG_CACHE names another folder, or switches remembering off (`off`).
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pyramidseg.base.files import write_text
from pyramidseg.base.version import __version__

T = TypeVar("T")

VARIABLE = "PYRAMIDSEG_CACHE"
OFF = ("off", "0", "no", "false")


@dataclass(frozen=True)
class ResultCache:
    """Results of earlier runs.

    Attributes:
        folder: where they lie; None remembers nothing.
        warn: says what is wrong with them.
    """

    folder: Path | None = None
    warn: Callable[[str], None] = lambda text: None

    @classmethod
    def of_user(cls, warn: Callable[[str], None]) -> "ResultCache":
        """That of the person who runs the program."""
        return cls(cache_folder(), warn)

    def get_or_compute(
        self,
        what: str,
        *,
        content: str,
        compute: Callable[[], T],
        to_json: Callable[[T], Any],
        from_json: Callable[[Any], T],
    ) -> T:
        """The result as this version computed it from the same content before, or else computed now and kept.

        Each `what` has one file: a result for new content takes the place of the old one. What is damaged is said aloud
        and made anew; a folder that cannot be written costs no more than a warning.
        """
        if self.folder is None:
            return compute()
        file, content = self.folder / f"{digest([what])[:32]}.json", f"{__version__} {content}"
        try:
            stored = json.loads(file.read_text(encoding="utf-8"))
            if digest([json.dumps(stored["value"])]) != stored["sum"]:
                raise ValueError("its checksum is wrong")
            if stored["content"] == content:
                return from_json(stored["value"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.warn(f"{file}: what was remembered is damaged and is made anew ({type(error).__name__}: {error})")
        result = compute()
        value = to_json(result)
        try:
            write_text(
                file, json.dumps({"content": content, "value": value, "sum": digest([json.dumps(value)])}) + "\n"
            )
        except OSError as error:
            self.warn(f"{error}; nothing is remembered for the next run ({VARIABLE}=off silences this)")
        return result


NO_CACHE = ResultCache()
"""Remembers nothing."""


def cache_folder() -> Path | None:
    """The user's folder for what can be made anew; None where remembering is switched off."""
    said = os.environ.get(VARIABLE, "")
    if said:
        return None if said.lower() in OFF else Path(said)
    try:
        home = Path.home()
    except RuntimeError:  # a container's user without a home
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pyramidseg" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pyramidseg"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "pyramidseg"


def digest(parts: Iterable[object]) -> str:
    """sha256 (hexadecimal) over the parts as Python writes them."""
    total = hashlib.sha256()
    for part in parts:
        total.update(repr(part).encode() + b"\n")
    return total.hexdigest()


def file_state(path: Path) -> tuple[str, int, int, int]:
    """What changes when a file does: path, size, and times in nanoseconds; -1 where there is none.

    The time of the last change to the file's entry (`ctime`; on Windows that of its creation) moves also where a copy
    restored the time of the last change to its content.
    """
    try:
        state = path.stat()
    except OSError:
        return str(path), -1, -1, -1
    return str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns
