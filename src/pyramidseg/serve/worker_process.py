"""What a worker process of the server does: it answers messages with images by the queue of `engine.py`.

Messages are pickles after their length; both ends are of this program.
"""

import asyncio
import gc
import os
import pickle
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from pyramidseg.base.errors import PyramidSegError
from pyramidseg.base.log import configure_logging
from pyramidseg.base.machine import keep_freed_memory
from pyramidseg.predict.input_images import ImageLike
from pyramidseg.predict.pipeline import stage_threads, use_available_processors
from pyramidseg.predict.segmentation import OutputOptions
from pyramidseg.serve.engine import Engine
from pyramidseg.serve.limits import Admission, Limits, Refused


class Channel:
    """One end of a connection between the server and a worker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self.close = reader, writer, writer.close

    def send(self, *message: Any) -> None:
        """Write a message; what the other end has not read yet is kept in memory."""
        content = pickle.dumps(message, protocol=5)
        self._writer.writelines((struct.pack(">Q", len(content)), content))

    async def receive(self) -> Any:
        """The next message; None when the other end has closed."""
        try:
            (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
            return pickle.loads(await self._reader.readexactly(length))  # noqa: S301 - from a process of this program
        except (asyncio.IncompleteReadError, OSError):
            return None


def work(
    end: socket.socket, make: Callable[..., Engine], limits: Limits, processors: Sequence[int], level: int
) -> None:
    """Load a model, and answer the server's messages until it closes its end.

    Args:
        end: of the connection.
        make: the engine, but for its limits, threads and records.
        processors: that this process may use; all if there are none.
        level: of the log.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # for the server, which ends its workers when it is done
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    keep_freed_memory()
    if processors:
        os.sched_setaffinity(0, processors)
    use_available_processors()
    configure_logging(level, progress=False, serving=True)
    gc.freeze()  # as in server.py
    asyncio.run(_answer_messages(end, make, limits))


async def _answer_messages(end: socket.socket, make: Callable[..., Engine], limits: Limits) -> None:
    channel = Channel(*await asyncio.open_connection(sock=end))
    admission = Admission(limits)
    records: list[tuple[str, float, str]] = []
    tasks = dict[int, asyncio.Task[Any]]()
    with ThreadPoolExecutor(stage_threads()) as threads:
        engine = make(limits=limits, record=lambda *record: records.append(record), threads=threads)
        try:
            await engine.start()
            channel.send("loaded", engine.model)
            await engine.warm_up()
            channel.send("ready", engine.batches)
        except PyramidSegError as error:
            channel.send("failed", str(error))
            channel.close()

        async def answer(source: ImageLike, options: OutputOptions) -> Any:
            try:
                with admission.admit(always=True) as held:
                    return replace(await engine.predict(source, options, held), source="")
            except Refused as error:
                return error.status, error.message, error.retry_after_s
            except Exception:
                return traceback.format_exc()

        def done(number: int, task: asyncio.Task[Any]) -> None:
            channel.send(number, None if task.cancelled() else task.result(), records[:])
            records.clear()
            del tasks[number]

        while message := await channel.receive():
            number, *work = message
            if work:
                tasks[number] = asyncio.create_task(answer(*work))
                tasks[number].add_done_callback(partial(done, number))
            elif number in tasks:
                tasks[number].cancel()
    os._exit(0)  # the server has gone, and nobody waits for what is computed
