"""`pyramidseg predict` with freed memory kept for the next image (the default on Linux), and as glibc does it.

    python -m benchmarks.allocator MODEL SOURCE [--rounds 3] [--options "--save mask,video"]

Whole commands take turns, start and all; printed are medians of the seconds, of the system's share of the processor
time, and the largest peak memory.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

CONTESTANTS = {"freed memory kept": {}, "as glibc does": {"MALLOC_PERTURB_": "0"}}
"""Variables of the environment: any of the allocator's leaves it as it is, and this one has its default."""


def measure(command: list[str], variables: dict[str, str]) -> tuple[float, float, float]:
    """Seconds, the system's share of the processor time, and peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        process = subprocess.Popen([*command, "--out", str(Path(folder) / "out")], env=os.environ | variables)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
    assert status == 0, command
    return seconds, used.ru_stime / (used.ru_utime + used.ru_stime), used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("source")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", default="", help="of predict")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pyramidseg", "predict", arguments.model, arguments.source, "--quiet"]
    command += shlex.split(arguments.options)
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(arguments.rounds):
        for name, variables in CONTESTANTS.items():
            results[name].append(measure(command, variables))
    print("| allocator | seconds | system | peak MiB |\n|---|---|---|---|")
    for name, own in results.items():
        seconds, system, peaks = zip(*own, strict=True)
        print(f"| {name} | {median(seconds):.1f} | {median(system):.0%} | {max(peaks):.0f} |")


if __name__ == "__main__":
    main()
