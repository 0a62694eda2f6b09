"""Device, precision, memory format, and what to do where memory or threads run out."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Literal, TypeVar

import torch
from torch import nn

from pyramidseg.base.errors import DeviceError, OutOfMemory, PyramidSegError
from pyramidseg.base.exhaustion import OUT_OF_MEMORY, exhausted, explain_exhaustion

Module = TypeVar("Module", bound=nn.Module)

Precision = Literal["fp32", "bf16", "fp16", "fp64"]


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        DeviceError: not a device, or not available on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"`device={name}`: unknown device; choose auto, cpu, cuda, cuda:N or mps") from None
    if device.type not in {"cpu", "cuda", "mps"}:
        raise DeviceError(f"`device={name}`: not supported; choose auto, cpu, cuda, cuda:N or mps")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("`device=mps`: no Apple GPU is available to this build of torch; choose cpu or auto")
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise DeviceError(f"`device={name}`: no CUDA GPU is available to this build of torch; choose cpu or auto")
    if device.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if device.index >= (count := torch.cuda.device_count()):
        raise DeviceError(f"`device={name}`: this machine has {count} GPUs, numbered from 0; choose one of these")
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device has native bfloat16 arithmetic; emulation is slow."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    return False


def resolve_precision(precision: Precision | Literal["auto"], device: torch.device) -> Precision:
    """Resolve `auto`: bf16 on devices that are fast in it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if has_fast_bf16(device) else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision for bf16 and fp16: convolutions in 16 bits, norms and losses in float32. No effect otherwise."""
    if precision not in {"bf16", "fp16"}:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def channels_last(module: Module) -> Module:
    """Convert all 4-dimensional weights of a module to channels_last.

    `Module.to` fails for networks that also have 5-dimensional weights (LambdaNet).
    """
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


@contextmanager
def loading_without_threads() -> Iterator[None]:
    """Load a model without starting torch's threads, so that the process can be forked afterwards (gunicorn --preload).

    Forked processes have no threads but think that they have; with more than one, torch would wait for them for ever.
    From here on, processes that are forked from this one continue with one thread.
    """
    use_one_thread_after_fork()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def use_one_thread_after_fork() -> None:
    """Let torch continue with one thread in processes that are forked from this one."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


@contextmanager
def out_of_memory_explained(advice: str) -> Iterator[None]:
    """Turn out-of-memory errors into an `OutOfMemory` with `advice`; what else ran out has its own."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(f"the GPU is out of memory: {advice}, or use the CPU (`device='cpu'`)") from error
    except Exception as error:
        if (what := exhausted(error)) is None or isinstance(error, PyramidSegError):
            raise
        raise OutOfMemory(f"{what}: {advice}" if what == OUT_OF_MEMORY else str(explain_exhaustion(error))) from error


def sum_dtype(device: torch.device) -> torch.dtype:
    """Type of sums over a whole dataset: float64, except on Apple's GPUs, which lack it."""
    return torch.float32 if device.type == "mps" else torch.float64
