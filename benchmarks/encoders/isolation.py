"""A function in a process of its own: a crash, a hang or a flood of memory ends that process and nothing else."""

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")


class IsolatedFailure(Exception):
    """The process died, or was ended, before it had a result; says how."""


def prepare_isolation(*modules: str) -> None:
    """Import these once, in the process that all others are forked from: torch alone takes seconds."""
    CONTEXT.set_forkserver_preload([*modules])


def call_isolated(function: Callable[..., Any], *arguments: object, seconds: float, memory_gb: float) -> Any:
    """`function(*arguments)`, which has to raise nothing.

    Raises:
        IsolatedFailure: the process died, or took longer than `seconds`.
    """
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_work, args=(sender, memory_gb, function, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise IsolatedFailure(f"no result after {seconds:.0f} s")
        return receiver.recv()
    except EOFError:
        process.join()
        raise IsolatedFailure(f"the process died with status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()


def _work(sender: Connection, memory_gb: float, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    limit = int(memory_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    sender.send(function(*arguments))
