"""What a server has to withstand, each by one command, which fails where the server does.

python -m benchmarks.serve.campaigns mutate MODEL [--number 100000]   requests with errors: no status 500
python -m benchmarks.serve.campaigns hostile MODEL [--number 10000]   damaged images: none ends a process
python -m benchmarks.serve.campaigns kill MODEL [--number 20]         kill -9 of the worker under load
python -m benchmarks.serve.campaigns reload MODEL [--number 100]      another model under load
python -m benchmarks.serve.campaigns memory MODEL [--number 100000]   images of mixed sizes
python -m benchmarks.serve.campaigns throughput MODEL [--number 200]  against `predict` with a folder
python -m benchmarks.serve.campaigns start MODEL [--number 5]         seconds until the first answer
"""

import argparse
import base64
import io
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.serve.load import Server, image, run_all
from PIL import Image

Request = tuple[str, str, bytes, dict[str, str]]
"""Method, path, body, headers."""

LENGTH = "Inference-Header-Content-Length"
VALUES = ("", "null", "-1", "0", "1e999", "99999999999999999999", '"x"', "[]", "{}", "[[[1]]]", "true", '"\\ud800"')
LABELS = '<BrushLabels name="b" toName="i"><Label value="class 1"/></BrushLabels>'
CONFIG = f'<View><Image name="i" value="$image"/>{LABELS}</View>'


def valid_requests(side: int = 32) -> list[Request]:
    """One of each kind."""
    content = image(side, 1)
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + content + b"\r\n--b--\r\n"
    encoded = base64.b64encode(content).decode()
    pixels = list(range(48))
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 3, 4, 4]}
    binary = {"inputs": [tensor | {"parameters": {"binary_data_size": 48}}]}
    head = json.dumps(binary).encode()
    task = {"tasks": [{"id": 1, "data": {"image": "/data/a.png"}}], "label_config": CONFIG}
    model = "/v2/models/MODEL/infer"
    as_json = {"Content-Type": "application/json"}
    return [
        ("POST", "/segment?include=labels,polygons", content, {}),
        ("POST", "/segment?format=labels", form, {"Content-Type": "multipart/form-data; boundary=b"}),
        ("POST", "/segment?format=overlay", json.dumps({"image": encoded}).encode(), as_json),
        ("POST", model, json.dumps({"inputs": [tensor | {"data": pixels}]}).encode(), as_json),
        ("POST", model, head + bytes(pixels), {LENGTH: str(len(head))}),
        ("POST", "/setup", json.dumps({"project": "1", "schema": CONFIG}).encode(), as_json),
        ("POST", "/predict", json.dumps(task).encode(), as_json),
        ("POST", "/webhook", b'{"action": "ANNOTATION_CREATED", "annotation": {"id": 1}}', as_json),
        ("GET", "/page/page.js", b"", {}),
        ("GET", "/models", b"", {"Accept": "application/json"}),
    ]


def mutated(request: Request, rng: random.Random) -> Request:
    """With one to three errors in the body, the path or the headers."""
    method, path, body, headers = request
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(max(1, len(body)))
        number = rng.randint(1, 40)
        kind = rng.randrange(9)
        if kind == 0:
            body = body[:place]
        elif kind == 1:
            body = body[:place] + rng.randbytes(number) + body[place + number :]
        elif kind == 2:
            body = body[:place] + body[place + number :]
        elif kind == 3:
            body = body[:place] + body[place : place + number] * rng.randint(2, 50) + body[place:]
        elif kind == 4 and body[:1] == b"{":
            parts = body.split(b":")
            at = rng.randrange(len(parts))
            parts[at] = b" " + rng.choice(VALUES).encode() + rng.choice((b",", b"}", b"]", b"")) + parts[at][-20:]
            body = b":".join(parts)
        elif kind == 5:
            name = rng.choice((LENGTH, "Content-Type", "Accept", "Content-Encoding", "X-Request-ID", "Host"))
            headers = headers | {name: rng.choice((*VALUES[1:11], "multipart/form-data; boundary=", "image/*", "gzip"))}
        elif kind == 6:
            path = path + rng.choice(("?format=", "&include=x", "/..", "/%00", "?model=%ff", "%2e%2e/", "?format=json"))
        elif kind == 7:
            method = rng.choice(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))
        else:
            body = bytes(byte ^ (rng.random() < 0.01 and 255) for byte in body)
    return method, path, body, headers


def hostile_image(rng: random.Random) -> bytes:
    """An image file of one of six formats, truncated, damaged, or with sizes that are not true."""
    file, kind = io.BytesIO(), rng.choice(("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"))
    side = rng.choice((1, 17, 64))
    options = {"compression": rng.choice(("tiff_lzw", "tiff_deflate", "raw"))} if kind == "TIFF" else {}
    Image.frombytes("RGB", (side, side), rng.randbytes(3 * side * side)).save(file, kind, **options)
    content = bytearray(file.getvalue())
    for _ in range(rng.randint(1, 4)):
        choice, place = rng.randrange(5), rng.randrange(len(content))
        if choice == 0:
            del content[place:]
        elif choice == 1:
            content[place : place + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00" * 4))
        elif choice == 2:
            content[place] ^= 1 << rng.randrange(8)
        elif choice == 3:
            content[place:place] = content[: rng.randrange(200)]
        elif kind == "PNG" and len(content) > 33:
            content[16:24] = struct.pack(">II", rng.choice((0, 1, 2**15, 2**31 - 1)), rng.choice((1, 2**15, 2**31 - 1)))
            content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        if not content:
            return b"x"
    return bytes(content)


def send_all(server: Server, requests: Iterator[Request], *, threads: int = 4) -> Counter[int]:
    """Statuses of requests, some at a time."""
    lock, statuses, failures = threading.Lock(), Counter[int](), []

    def work() -> None:
        while True:
            with lock:
                request = next(requests, None)
            if request is None:
                return
            method, path, body, headers = request
            status, answer = server.get(path, body or None, headers, method)
            statuses[status] += 1
            if statuses.total() % 5000 == 0:
                print(f"{statuses.total()}: {statuses}", flush=True)
            if status in (0, 500):
                failures.append((status, method, path, headers, body[:300], answer[:300]))

    run_all([threading.Thread(target=work) for _ in range(threads)])
    for failure in failures[:5]:
        print(failure, flush=True)
    return statuses


def mutate(server: Server, number: int) -> Counter[int]:
    """Requests with errors."""
    rng = random.Random(0)
    valid = [(method, path.replace("MODEL", server.name()), *rest) for method, path, *rest in valid_requests()]
    assert send_all(server, iter(valid)) == {200: len(valid) - 1, 201: 1}
    statuses = send_all(server, (mutated(rng.choice(valid), rng) for _ in range(number)))
    assert not statuses[500] and not server.metric('errors_total{status="500"}'), server.log()[-3000:]
    assert send_all(server, iter(valid)) == {200: len(valid) - 1, 201: 1}
    assert "Traceback" not in server.log()
    return statuses


def hostile(server: Server, number: int) -> tuple[Counter[int], float]:
    """Damaged images; returns the statuses, and how many processes ended."""
    rng = random.Random(0)
    statuses = send_all(server, (("POST", "/segment?format=labels", hostile_image(rng), {}) for _ in range(number)))
    assert not statuses[500] and not statuses[0], server.log()[-3000:]
    return statuses, server.metric(f'workers_replaced_total{{model="{server.name()}"}}')


def under_load(server: Server, disturb: Callable[[int], object], number: int) -> tuple[Counter[int], float]:
    """Statuses of four callers while something happens `number` times, and the longest time of `/health/live`."""
    statuses, stop, slowest, content = Counter[int](), threading.Event(), [0.0], image(64, 1)

    def ask() -> None:
        while not stop.is_set():
            statuses[server.get("/segment?format=labels", content)[0]] += 1

    def probe() -> None:
        while not stop.wait(0.1):
            started = time.monotonic()
            assert server.get("/health/live")[0] == 200
            slowest[0] = max(slowest[0], time.monotonic() - started)

    threads = [threading.Thread(target=ask) for _ in range(4)] + [threading.Thread(target=probe)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(number):
            done = statuses.total()
            while statuses.total() < done + 8:
                time.sleep(0.01)
            disturb(turn)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return statuses, slowest[0]


def kill(server: Server, number: int) -> tuple[Counter[int], float]:
    """`kill -9` of the worker; every request is answered with 200, and counters never fall."""
    before = [0.0]

    def disturb(turn: int) -> None:
        os.kill(server.worker(), signal.SIGKILL)
        while server.metric(f'workers_replaced_total{{model="{server.name()}"}}') < turn + 1:
            time.sleep(0.02)
        server.await_readiness()
        total = server.metric('latency_seconds_count{phase="decode"}')
        assert total >= before[0]
        before[0] = total

    found = under_load(server, disturb, number)
    assert set(found[0]) == {200}, found
    return found


def reload(server: Server, number: int) -> tuple[Counter[int], float]:
    """SIGHUP; every request is answered with 200, and no process is left over."""

    def disturb(turn: int) -> None:
        server.process.send_signal(signal.SIGHUP)
        while server.metric('reloads_total{result="done"}') < turn + 1:
            time.sleep(0.05)

    found = under_load(server, disturb, number)
    assert set(found[0]) == {200} and not server.metric('reloads_total{result="refused"}'), found
    end = time.monotonic() + 20
    expected = 3 + server.workers  # the server, the fork server, its resource tracker
    while len(server.processes()) != expected:
        assert time.monotonic() < end, "old workers are left"
        time.sleep(0.1)
    return found


def memory(server: Server, number: int) -> list[int]:
    """MiB after each tenth of requests of mixed sizes, the first after each size was seen ten times."""
    contents = [image(side, side) for side in (32, 64, 96, 144, 208, 256)]
    found = []
    for _ in range(10):
        statuses = send_all(server, (("POST", "/segment", contents[n % 6], {}) for n in range(max(60, number // 10))))
        assert set(statuses) == {200}, statuses
        found.append(server.memory_mb())
    return found


def throughput(server: Server, number: int) -> str:
    """Images per second of `predict` for a folder and of the server, and the callers' share of the processor.

    Where batches do not give the results of single images in every bit, the server computes one at a time; the folder's
    rate is measured that way, too.
    """
    rates: dict[str, list[float]] = {"predict": [], "predict, one image at a time": [], "server": []}
    with tempfile.TemporaryDirectory() as home:
        contents = [image(256, seed) for seed in range(number)]
        for position, content in enumerate(contents):
            (Path(home) / f"{position:06}.jpg").write_bytes(content)
        requests = lambda: (("POST", "/segment?format=labels", content, {}) for content in contents)  # noqa: E731
        send_all(server, iter(list(requests())[:20]))
        script = (
            "from pyramidseg.base.machine import keep_freed_memory; keep_freed_memory()\n"
            "import sys, time, pathlib, pyramidseg as ps\n"
            "from pyramidseg.predict.outputs.output_writers import encode_png\n"
            "p = ps.Predictor(sys.argv[1], backend=sys.argv[3]); batch = int(sys.argv[4])\n"
            "files = sorted(pathlib.Path(sys.argv[2]).iterdir())\n"
            "list(p.predict_many(files[:20], batch_size=batch)); start = time.monotonic()\n"
            "for result in p.predict_many(files, batch_size=batch): encode_png(result.labels)\n"
            "print(len(files) / (time.monotonic() - start))"
        )
        share = 0.0
        for _ in range(3):
            for name, batch in (("predict", "4"), ("predict, one image at a time", "1")):
                command = [sys.executable, "-c", script, server.model, home, server.backend, batch]
                rates[name].append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            used, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
            assert set(send_all(server, iter(list(requests())), threads=16)) == {200}
            seconds, now = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF)
            rates["server"].append(number / seconds)
            share = (now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) / seconds / (os.cpu_count() or 1)
    best = {name: max(values) for name, values in rates.items()}
    ratios = (f"{name} {rate:.1f}/s ({100 * best['server'] / rate:.0f} %)" for name, rate in best.items())
    return f"{', '.join(ratios)}; callers {100 * share:.0f} % of the processors"


def start(server: Server, number: int) -> dict[str, list[float]]:
    """Seconds from the command to readiness, with one worker and without."""
    found: dict[str, list[float]] = {"1": [], "0": []}
    for workers in ["1", "0"] * number:
        with Server(server.model, "--workers", workers) as other:
            found[workers].append(round(other.await_readiness(), 2))
    return found


CAMPAIGNS: dict[str, tuple[Callable[[Server, int], object], int]] = {
    "mutate": (mutate, 100_000),
    "hostile": (hostile, 10_000),
    "kill": (kill, 20),
    "reload": (reload, 100),
    "memory": (memory, 100_000),
    "throughput": (throughput, 200),
    "start": (start, 5),
}


def main() -> None:
    """Run one campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("model")
    parser.add_argument("--number", type=int, help="of requests, kills, reloads or repeats")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--backend", default="auto")
    arguments = parser.parse_args()
    run, number = CAMPAIGNS[arguments.campaign]
    started, load = time.monotonic(), os.getloadavg()[0]
    flags = ("--workers", str(arguments.workers), "--backend", arguments.backend)
    with Server(arguments.model, *flags) as server:
        server.workers, server.backend = arguments.workers, arguments.backend
        result = run(server, arguments.number or number)
    minutes = (time.monotonic() - started) / 60
    print(f"{arguments.campaign}: {result} ({minutes:.1f} min, load {load:.1f} before, {os.getloadavg()[0]:.1f} after)")


if __name__ == "__main__":
    main()
