"""The user's cache folder, in which copies of remote models are kept."""

import os
import sys
from pathlib import Path

VARIABLE = "PYRAMIDSEG_CACHE"
OFF = ("off", "0", "no", "false")


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/pyramidseg`, or its counterpart on macOS and Windows; None if nothing is to be kept.

    The environment variable PYRAMIDSEG_CACHE names another folder, or is `off`.
    """
    setting = os.environ.get(VARIABLE, "")
    if setting:
        return None if setting.lower() in OFF else Path(setting)
    try:
        home = Path.home()
    except RuntimeError:  # a container's user without a home
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pyramidseg" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pyramidseg"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "pyramidseg"
