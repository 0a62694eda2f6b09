"""Errors that mean that memory, threads or open files have run out, whichever library raises them."""

import errno

OUT_OF_MEMORY = "out of memory"

_SIGNS = {
    OUT_OF_MEMORY: (
        *("MemoryError", "OutOfMemoryError", "DefaultCPUAllocator", "bad_alloc", "bad allocation", "Cannot allocate"),
        *("could not create a primitive", "could not create a memory", "Failed to allocate", "Insufficient memory"),
        *("unable to mmap", "failed to map segment", "codec configuration error when writing"),
    ),
    "too many threads or processes": ("can't start new thread", "thread creation failed", "pthread_create"),
    "too many open files": ("Too many open files", "items of ancdata"),
}
"""Texts in the messages of Python, NumPy, Pillow, OpenCV, torch, oneDNN, ONNX Runtime, OpenVINO and the linker."""

_ADVICE = {
    OUT_OF_MEMORY: "use smaller batches or images and fewer data.workers, or a machine with more memory",
    "too many threads or processes": "raise the limit (ulimit -u), or use fewer data.workers",
    "too many open files": "raise the limit (ulimit -n 1024), or set data.workers=0",
}


def exhausted(error: BaseException) -> str | None:
    """What ran out, if an error means that; None for every other error."""
    if isinstance(error, MemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "too many open files"
    if isinstance(error, BlockingIOError):  # of fork
        return "too many threads or processes"
    text = f"{type(error).__name__}: {error}"
    return next((what for what, signs in _SIGNS.items() if any(sign in text for sign in signs)), None)


def explain_exhaustion(error: BaseException) -> str | None:
    """What ran out and what to do, in one line; None for every other error."""
    what = exhausted(error)
    return what and f"{what}: {_ADVICE[what]}"
