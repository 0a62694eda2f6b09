"""Starting the command: what `pyramidseg --help` takes, beside a Python that does nothing."""

import subprocess
import sys
from functools import partial

from benchmarks.speed.rows import Row, timed_rows
from benchmarks.speed.settings import Bench

from pyramidseg.base.timing import alternate

NOTHING, HELP = "python -c pass", "pyramidseg --help"


def measure_startup(bench: Bench) -> list[Row]:
    """Both, each time in a process of its own."""
    bench.say("starting the command")
    calls = {NOTHING: partial(_run, "-c", "pass"), HELP: partial(_run, "-m", "pyramidseg", "--help")}
    return timed_rows("start-up", alternate(calls, rounds=2 * bench.settings.rounds), peers=[NOTHING])


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
