"""Every error that a user can cause, in one tree.

    PyramidSegError             exit status 2, one line on the terminal
    ├── ConfigError             a setting, a flag, or a combination of them
    ├── DataError               a dataset, an image, a mask
    ├── WeightsError            weights that are absent, damaged, foreign or do not fit
    ├── DeviceError             a device that is absent, or out of memory
    ├── OutputError             a place to write that is taken, read-only or full
    ├── TrainingError           training that cannot go on (repeated non-finite steps)
    └── MissingExtra            an optional library that is not installed

A message is one sentence: what, where, got, allowed, next step. Anything else that escapes is our own defect and
ends with a traceback and status 1.
"""

import difflib
from collections.abc import Iterable


class PyramidSegError(Exception):
    """The user's input cannot be used as it is."""

    exit_status = 2


class ConfigError(PyramidSegError, ValueError):
    """A setting is unknown, out of range, or contradicts another one."""


class DataError(PyramidSegError, ValueError):
    """An image, a mask or a whole dataset is not what it has to be."""


class WeightsError(PyramidSegError, ValueError):
    """Weights could not be found, read, verified or fitted to the model."""


class DeviceError(PyramidSegError, RuntimeError):
    """A device that was asked for is not there, or has no memory left."""


class OutputError(PyramidSegError, OSError):
    """Something cannot be written where it was asked for."""


class TrainingError(PyramidSegError, RuntimeError):
    """Training cannot go on; the last good state was kept."""


class MissingExtra(PyramidSegError, ImportError):
    """An optional library is needed for what was asked."""

    def __init__(self, library: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}, which is not installed: pip install 'pyramidseg[{extra}]'")


def nearest(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """A clause that proposes the known name nearest to a misspelt one, or lists the known ones.

    Args:
        prefix: shown before names.

    Returns:
        `did you mean 'x'?` where one is near, else `known: a, b, c`.
    """
    names = sorted(known)
    if not names:
        return "there is none"
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6) or [known for known in names if name in known]
    if name and close:
        return f"did you mean {prefix + close[0]!r}?"
    return f"known: {', '.join(prefix + name for name in names)}"
