"""Open load on a server at 0.5, 1 and 3 times its capacity: goodput, statuses, latency, health and memory.

    python -m benchmarks.serve.load MODEL [--seconds 60] [--side 256] [--workers 1]

Capacity is measured first, with as many callers as processors, each of which waits for its answer. Then requests start
at fixed times, whatever became of those before. Everything runs on one machine, so the callers' share of the processor
is printed too.
"""

import argparse
import contextlib
import http.client
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image


class Server:
    """A server process on a free port; `workers` is how many the campaigns expect, and `backend` what computes."""

    workers, backend = 1, "auto"

    def __init__(self, model: str, *flags: str) -> None:
        command = [sys.executable, "-m", "pyramidseg", "serve", model, "-q", "--port", "0", *flags]
        self.model, self.started = model, time.monotonic()
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the server
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        assert self.process.stdout is not None
        place = urlsplit(self.process.stdout.readline().rpartition(" on ")[2].strip())
        assert place.hostname, self.log()
        self.address = place.hostname, place.port
        self.await_readiness()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()

    def await_readiness(self) -> float:
        """Seconds since the start."""
        while self.get("/health/ready")[0] != 200:
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)
        return time.monotonic() - self.started

    def log(self) -> str:
        """Warnings, errors and tracebacks."""
        self.errors.seek(0)
        return self.errors.read()

    def metric(self, sample: str) -> float:
        """A value of `/metrics`; 0 if it is absent."""
        found = re.findall(rf"^pyramidseg_{re.escape(sample)} (\S+)$", self.get("/metrics")[1].decode(), re.MULTILINE)
        return float(found[0]) if found else 0.0

    def processes(self) -> list[int]:
        """The server's process, its fork server, and its workers, which are the last ones."""
        ids = [self.process.pid]
        for number in ids:
            with contextlib.suppress(OSError):
                ids += map(int, Path(f"/proc/{number}/task/{number}/children").read_text().split())
        return ids

    def get(
        self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, method: str = ""
    ) -> tuple[int, bytes]:
        """Status and body; status 0 for a connection that was lost."""
        connection = http.client.HTTPConnection(*self.address, timeout=120)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def memory_mb(self) -> int:
        """Memory of all processes, shared pages counted once."""
        total = 0
        for number in self.processes():
            with contextlib.suppress(OSError, IndexError):
                rollup = Path(f"/proc/{number}/smaps_rollup").read_text()
                total += int(re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0])
        return total // 1024

    def name(self) -> str:
        """The model's."""
        found: str = json.loads(self.get("/models")[1])[0]["name"]
        return found

    def worker(self) -> int:
        """The process that computes."""
        return self.processes()[-1]


def image(side: int, seed: int) -> bytes:
    """A JPEG of smooth noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (side // 16, side // 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def closed_load(server: Server, images: list[bytes], seconds: float) -> float:
    """Answers per second with callers that wait."""
    done, end = [], time.monotonic() + seconds

    def call(number: int) -> None:
        while time.monotonic() < end:
            done.append(server.get("/segment?format=labels", images[number % len(images)])[0])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(2 * (os.cpu_count() or 1))]
    run_all(threads)
    assert set(done) == {200}, Counter(done)
    return len(done) / seconds


def open_load(server: Server, images: list[bytes], rate: float, seconds: float) -> str:
    """A line of results at some requests per second."""
    results: list[tuple[int, float]] = []
    health: list[float] = []
    stop = threading.Event()

    def timed(work: Callable[[], tuple[int, bytes]]) -> tuple[int, float]:
        started = time.monotonic()
        return work()[0], time.monotonic() - started

    def call(number: int) -> None:
        results.append(timed(lambda: server.get("/segment?format=labels", images[number % len(images)])))

    def probe() -> None:
        while not stop.wait(0.2):
            health.append(timed(lambda: server.get("/health/live"))[1])

    prober = threading.Thread(target=probe)
    prober.start()
    start, processor, threads = time.monotonic(), time.process_time(), []
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        threads.append(threading.Thread(target=call, args=(number,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - start
    stop.set()
    prober.join()
    good = sorted(latency for status, latency in results if status == 200)
    p50, p99 = (good[min(len(good) - 1, int(share * len(good)))] for share in (0.5, 0.99))
    share = (time.process_time() - processor) / took / (os.cpu_count() or 1)
    return (
        f"{rate:6.1f}/s asked, {len(good) / took:6.1f}/s answered, {dict(Counter(s for s, _ in results))}, "
        f"p50 {p50:.2f} s, p99 {p99:.2f} s, health at most {max(health):.2f} s, "
        f"callers {100 * share:.0f} % of the processors, {server.memory_mb()} MiB"
    )


def run_all(threads: list[threading.Thread]) -> None:
    """Start and await threads."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--workers", default="1")
    arguments = parser.parse_args()
    print(f"{arguments.workers} workers, load {os.getloadavg()[0]:.1f} before", flush=True)
    with Server(arguments.model, "--max-requests", "16", "--workers", arguments.workers) as server:
        images = [image(arguments.side, seed) for seed in range(16)]
        closed_load(server, images, 5)
        capacity = closed_load(server, images, arguments.seconds)
        print(f"capacity {capacity:.1f}/s, {server.memory_mb()} MiB", flush=True)
        for factor in (0.5, 1, 3):
            print(f"{factor} x: {open_load(server, images, factor * capacity, arguments.seconds)}", flush=True)


if __name__ == "__main__":
    main()
