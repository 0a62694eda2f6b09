"""Every error that a user can cause, in one tree.

    PyramidSegError             exit status 2, one line on the terminal
    ├── ConfigError             a setting, a flag, or a combination of them
    ├── DataError               a dataset, an image, a mask
    ├── WeightsError            weights that are missing, damaged, of another library, or of another shape
    ├── DeviceError             a device that is missing
    │   └── OutOfMemory         memory that does not suffice
    ├── OutputError             an output that exists already, or that cannot be written
    ├── TrainingError           training that cannot continue (repeated non-finite steps)
    └── MissingExtra            an optional library that is not installed

A message is one sentence: what, where, got, allowed, next step. Any other exception is a defect of the program: it
ends with a traceback and status 1.
"""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any


class PyramidSegError(Exception):
    """Base class: the user's input cannot be used as it is."""

    exit_status = 2
    suggestion = ""
    """Lines at the end of the message that are to be pasted into a file; the command line prints them as they are."""


class ConfigError(PyramidSegError, ValueError):
    """A setting is unknown, out of range, or contradicts another one."""


class DataError(PyramidSegError, ValueError):
    """An image, a mask or a dataset cannot be used."""


class WeightsError(PyramidSegError, ValueError):
    """Weights cannot be found, read, verified or loaded into the model."""


class DeviceError(PyramidSegError, RuntimeError):
    """A requested device is not available, or out of memory."""


class OutOfMemory(DeviceError):
    """The memory of a device or of the machine does not suffice for what was asked."""


class OutputError(PyramidSegError, OSError):
    """An output cannot be written."""


class TrainingError(PyramidSegError, RuntimeError):
    """Training cannot continue; the last good state was kept."""


class MissingExtra(PyramidSegError, ImportError):
    """An optional library is needed and not installed."""

    def __init__(self, library: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}, which is not installed: pip install 'pyramidseg[{extra}]'")


def import_extra(module: str, *, extra: str, purpose: str) -> Any:
    """Import a module of an optional library.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra(module.partition(".")[0].replace("_", "-"), extra=extra, purpose=purpose) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` with the known name nearest to a misspelt one if any is near, else `known: a, b, c`."""
    names = sorted(known)
    if not names:
        return "none are known"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if len(name) >= 3 and not close:
        close = [known for known in names if name in known]
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
