"""Freed blocks of any size are used again, by all threads, without the system clearing their pages once more."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource, threading
from pyramidseg.base.machine import keep_freed_memory
keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def use_and_free():
    block = libc.malloc(2**27)
    libc.memset(block, 1, 2**27)
    libc.free(block)
def twice():
    global faults
    use_and_free()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use_and_free()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
thread = threading.Thread(target=twice)
thread.start()
thread.join()
print(faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize(("variables", "is_kept"), [({}, True), ({"MALLOC_PERTURB_": "0"}, False)])
def test_freed_blocks_are_kept_unless_the_environment_configures_the_allocator(variables, is_kept):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variables
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, check=True, capture_output=True, text=True
    )
    assert (int(process.stdout) < 10) == is_kept
