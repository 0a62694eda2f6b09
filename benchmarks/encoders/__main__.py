"""Check every encoder and time it: writes docs/encoders.md and docs/encoders.csv.

    python -m benchmarks.encoders                         all of it
    python -m benchmarks.encoders --no-latency            on a busy machine: the checks alone
    python -m benchmarks.encoders --no-checks             on a quiet one: the latencies of those that work
    python -m benchmarks.encoders --only 'swin*'          a part: encoders or families that match

From the root of the checkout; no network is used. Results are added to those that are there after each encoder, so that
a sweep that was interrupted goes on with `--missing`. Each encoder has a process of its own. Exit status 3: an encoder
is accepted and fails a check.
"""

import argparse
import fnmatch
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import timm
import torch
from benchmarks.encoders.families import FAMILIES
from benchmarks.encoders.isolation import IsolatedFailure, call_isolated, prepare_isolation
from benchmarks.encoders.steps import checked, timed
from benchmarks.encoders.table import Row, read_rows, write_page, write_rows

DOCS = Path(__file__).parents[2] / "docs"

SECONDS = 600.0
"""An encoder may take this long for its checks, and again for its latency."""


def main(arguments: list[str] | None = None) -> int:
    """Sweep, and write both files after each encoder."""
    options = _parser().parse_args(arguments)
    prepare_isolation("benchmarks.encoders.steps")
    known = read_rows(options.out / "encoders.csv")
    rows = {
        name: replace(known.get(name, Row(name, family)), family=family)
        for family, names in FAMILIES.items()
        for name in names
    }
    chosen = [row for row in rows.values() if _matches(row, options.only)]
    if not chosen:
        _parser().error(f"--only {options.only}: no encoder or family of the sweep matches")
    for number, row in enumerate(chosen, start=1):
        if not options.no_checks and not (options.missing and row.status in ("works", "refused")):
            row = _isolated(checked, row, options.memory_gb)
        if not options.no_latency and row.status == "works" and not (options.missing and row.latency_ms):
            row = _isolated(timed, row, options.memory_gb)
        rows[row.encoder] = row
        write_rows(options.out / "encoders.csv", rows.values())
        write_page(options.out / "encoders.md", list(rows.values()), versions=_versions())
        print(f"[{number}/{len(chosen)}] {_line(row)}", flush=True)
    return 3 if any(row.status == "fails" for row in rows.values()) else 0


def _isolated(step: Callable[[Row], Row], row: Row, memory_gb: float) -> Row:
    try:
        result: Row = call_isolated(step, row, seconds=SECONDS, memory_gb=memory_gb)
    except IsolatedFailure as failure:
        return replace(row, status="fails", reason=f"{step.__name__}: {failure}")
    return result


def _matches(row: Row, pattern: str) -> bool:
    return fnmatch.fnmatch(row.encoder, pattern) or fnmatch.fnmatch(row.family, pattern)


def _versions() -> str:
    return f"timm {timm.__version__} and torch {torch.__version__.partition('+')[0]}"


def _line(row: Row) -> str:
    if row.status != "works":
        return f"{row.encoder}: {row.status}: {row.reason}"
    latency = f", {row.ratio:.2f} x ResNet-18" if row.ratio else ""
    return f"{row.encoder}: works: {row.parameters / 1e6:.1f} M parameters, {row.gmac:.1f} GMAC{latency}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="encoders or families, such as 'swin*'")
    parser.add_argument("--missing", action="store_true", help="leave what is there already as it is")
    parser.add_argument("--no-checks", action="store_true", help="measure the latency of those that work")
    parser.add_argument("--no-latency", action="store_true", help="check, and leave the latencies as they are")
    parser.add_argument("--memory-gb", type=float, default=8.0, help="what one encoder may take")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for encoders.md and encoders.csv")
    return parser


if __name__ == "__main__":
    sys.exit(main())
