import mmap
import sys

import pytest
import torch

from pyramidseg.base.errors import TrainingError
from pyramidseg.studies.process_memory import peak_growth, peak_memory

CPU = torch.device("cpu")
MIB = 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the peak of a process cannot be reset")
def test_the_peak_counts_what_is_gone_again_and_nothing_from_before():
    def work():
        with mmap.mmap(-1, 96 * MIB) as fresh:  # what malloc gives may be resident already from tests before this one
            for page in range(0, len(fresh), mmap.PAGESIZE):
                fresh[page] = 1

    work()
    assert 90 * MIB < peak_growth(work, CPU) < 130 * MIB
    assert peak_growth(lambda: None, CPU) < 20 * MIB


def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(TrainingError, match=r"measuring its memory at 64x64 failed: .*absent.safetensors"):
        peak_memory(tmp_path / "absent.safetensors", height=64, width=64, device=CPU)
