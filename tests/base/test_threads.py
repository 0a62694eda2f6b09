"""Threads that are gone once their pool has ended."""

import ctypes
import sys
import threading
from pathlib import Path

import pytest

from pyramidseg.base.parallel import thread_pool

LINGERS_US = 200_000


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the system's own list of threads")
def test_none_is_left_that_the_system_still_has() -> None:
    """As OpenCV does: what a C library does when a thread has left Python already, with a lock in its hands."""
    libc = ctypes.CDLL(None)
    key = ctypes.c_uint()
    assert libc.pthread_key_create(ctypes.byref(key), libc.usleep) == 0

    def linger(_: int) -> int:
        assert libc.pthread_setspecific(key, ctypes.c_void_p(LINGERS_US)) == 0
        return threading.get_native_id()

    with thread_pool(2) as pool:
        begun = set(pool.map(linger, range(20)))
    assert begun
    assert not [native_id for native_id in begun if Path(f"/proc/self/task/{native_id}").exists()]
    assert libc.pthread_key_delete(key) == 0
