"""Studies of many runs whose results are kept in OUT/results.json one by one: one that was cut off goes on there."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def run_missing(
    out: Path, runs: Iterable[dict[str, Any]], once: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Call `once` for each run that is not kept yet. Returns all results: what a run is, and what `once` found."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.json"
    results: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    for run in runs:
        if any(run.items() <= done.items() for done in results):
            continue
        results.append(run | once(run))
        file.write_text(json.dumps(results, indent=1))
        print(f"{json.dumps(run)}: mIoU {results[-1]['miou']:.4f}", flush=True)
    return results
