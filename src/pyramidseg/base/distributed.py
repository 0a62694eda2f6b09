"""The processes of a distributed run; every function also works in a run of one process."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pyramidseg.base.errors import PyramidSegError

T = TypeVar("T")


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes of this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that `torchrun` started; no effect without it, or in the group that Ray Train has formed.

    They communicate by NCCL on CUDA, by gloo on CPUs and where processes share a GPU, which NCCL refuses.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ and "WORLD_SIZE" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield
        return
    has_own_gpu = device.type == "cuda" and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= torch.cuda.device_count()
    backend = "nccl" if has_own_gpu else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    try:
        yield
    finally:
        dist.destroy_process_group()


def broadcast_buffers(module: nn.Module) -> None:
    """Copy the first process's buffers to all: batch norm's statistics differ if they are not synchronised."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def sum_over_ranks(values: Tensor) -> Tensor:
    """Sum a tensor over all processes, without gradient; with one process, the detached tensor."""
    if world_size() == 1:
        return values.detach()
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def on_first_rank(work: Callable[[], T]) -> T:
    """Run `work` in the first process only; all processes return its result, or raise its error."""
    if world_size() == 1:
        return work()
    outcome: list[tuple[T | None, PyramidSegError | None]] = [(None, None)]
    if rank() == 0:
        try:
            outcome = [(work(), None)]
        except PyramidSegError as error:
            outcome = [(None, error)]
    dist.broadcast_object_list(outcome)
    value, raised = outcome[0]
    if raised is not None:
        raise raised
    return value  # type: ignore[return-value]
