"""How model and pipeline share the processors that there are."""

import torch

from pyramidseg.processors import available_processors


def use_available_processors() -> None:
    """Let torch, and the runtimes that ask it, start no more threads than there are processors for them.

    torch counts the machine's; in a container with a share of them, its threads would wait for each other.
    """
    torch.set_num_threads(min(torch.get_num_threads(), available_processors()))


def stage_threads() -> int:
    """Threads of a stage of the pipeline: half of the processors, as the model needs them too, and 8 at most."""
    return max(1, min(8, available_processors() // 2))
