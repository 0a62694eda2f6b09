"""Run the campaigns: `make campaign`, or `PYTHONPATH=tests:. python -m campaigns --trials 3 images`.

A trial follows from its campaign and number, so `--first NUMBER --trials 1 NAME` repeats it. Counts and failures are
appended to STATE/NAME.jsonl; a second call continues after the last trial there.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from campaigns.bad_files import bundles, checkpoints, exports, images, labels
from campaigns.harness import preload
from campaigns.kills import convert_kills, export_kills, predict_kills, train_kills
from campaigns.many_files import many_files
from campaigns.non_finite import non_finite
from campaigns.odd_names import odd_names
from campaigns.payloads import payloads
from campaigns.resources import resources
from campaigns.shapes import shapes
from campaigns.two_processes import two_processes

FULL = {
    images: 20_000,
    labels: 5_000,
    bundles: 5_000,
    exports: 2_500,
    checkpoints: 2_500,
    payloads: 1_000,
    predict_kills: 400,
    train_kills: 300,
    export_kills: 100,
    convert_kills: 200,
    non_finite: 1_000,
    shapes: 2_000,
    resources: 1_000,
    two_processes: 500,
    odd_names: 2_000,
    many_files: 40_000,
}
"""Cases of the full campaign."""

CAMPAIGNS = {campaign.__name__: campaign for campaign in FULL}


def main() -> int:
    """Run, print a line for each failure and one for each campaign; status 1 if there were failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(CAMPAIGNS), metavar="NAME", help=", ".join(CAMPAIGNS))
    parser.add_argument("--trials", type=int, help="of each campaign (default: until its full number of cases)")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="end after these; each campaign gets an equal share")
    parser.add_argument("--state", type=Path, help="folder for the counts")
    arguments = parser.parse_args()
    preload()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names:
            share = arguments.minutes * 60 / len(arguments.names)
            shared = Path(folder) / name
            shared.mkdir()
            failed += run_campaign(name, shared, arguments, until=time.monotonic() + share)
    return int(failed > 0)


def run_campaign(name: str, shared: Path, arguments: argparse.Namespace, *, until: float) -> int:
    """Run trials of one campaign until its number, or the time, is reached; returns the number of failures."""
    state = arguments.state and arguments.state / f"{name}.jsonl"
    done = [json.loads(line) for line in state.read_text().splitlines()] if state and state.exists() else []
    cases, failed = sum(entry["cases"] for entry in done), sum(len(entry["failures"]) for entry in done)
    number, run = max([entry["trial"] + 1 for entry in done], default=arguments.first), 0
    trial = CAMPAIGNS[name](shared)
    while time.monotonic() < until and (run < arguments.trials if arguments.trials else cases < FULL[CAMPAIGNS[name]]):
        with tempfile.TemporaryDirectory(dir=shared) as folder:
            work = Path(folder) / "trial"
            work.mkdir()
            results = trial(random.Random(f"{name} {number}"), work)
        failures = [result for result in results if result]
        for failure in failures:
            print(f"{name} {number}: {failure}", flush=True)
        if state:
            state.parent.mkdir(parents=True, exist_ok=True)
            with state.open("a") as file:
                file.write(json.dumps({"trial": number, "cases": len(results), "failures": failures}) + "\n")
        cases, failed, number, run = cases + len(results), failed + len(failures), number + 1, run + 1
    print(f"{name}: {cases} cases, {failed} failures", flush=True)
    return failed


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)
