"""An HTTP server for models: plain requests, the Open Inference Protocol, and Label Studio's backend protocol."""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import BaseContext


def process_context() -> BaseContext:
    """How worker processes start: forked from a process without threads that has imported torch, where that exists.

    Called before torch is imported here, it lets both processes import it at the same time.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyramidseg.serve.workers"])
    forkserver.ensure_running()
    return context
