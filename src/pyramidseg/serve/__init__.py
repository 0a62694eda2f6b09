"""An HTTP server for models: plain requests, the Open Inference Protocol, and Label Studio's backend protocol."""

import multiprocessing
import signal
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext


def process_context() -> BaseContext:
    """How worker processes start: forked from a process without threads that has imported torch, where that exists.

    Called before torch is imported here, it lets both processes import it at the same time. Ctrl-C is for the server
    alone: the process from which others are forked inherits that the signal is blocked.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyramidseg.serve.workers"])
    resource_tracker.ensure_running()  # otherwise the fork server starts it, which unblocks the signal
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return context
