"""Everything that only a CUDA GPU can show, in one command of 15 minutes, without network.

    python -m benchmarks.gpu --out DIR                 all
    python -m benchmarks.gpu --out DIR --only resume   a part; the rest of DIR/results.json is kept
    python -m benchmarks.gpu --out DIR --device cpu    the same commands on a CPU, to try the script itself
    python -m benchmarks.gpu --out DIR --camvid FOLDER with epochs of CamVid (SegNet layout), else of synthetic scenes
    python -m benchmarks.gpu --wheels > wheels.txt     the packages to carry there, for
                                                       pip download --no-deps --requirement wheels.txt

It runs from the root of a checkout, with nothing installed but these packages and torch, torchvision and timm; one that
is missing is named at the start, with the parts that need it. Each part is a process of its own with a time limit, and
a part that no longer fits into --minutes is not run. DIR/results.json and DIR/results.md are written after each part,
with what failed and why; DIR/parts has the output of each.

    tests       the tests that are marked `gpu`
    rates       matrix products and convolutions alone, in the card's precisions
    resume      training with train.deterministic, killed and resumed: all tensors equal, in each precision
    processes   two processes on one card (gloo, as NCCL refuses two ranks on one card), and NCCL with one process
    training    steps against segmentation_models.pytorch; this and the next three are sections of benchmarks.speed
    epoch       epochs, data included
    tensorrt    engines of exported ONNX files against PyTorch, where the package tensorrt is installed
    prediction  of one encoder: compiling takes most of the time; all by python -m benchmarks.speed --only prediction
    memory      of the same, and of the training step

Asked of the training step, and printed with it: 1.5 times segmentation_models.pytorch with channels_last and mixed
precision, and 60 % of the rate that cuDNN's convolutions reach in the same run.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.wheels import missing, wheels

MINUTES = {
    "tests": 1.5,
    "rates": 0.5,
    "resume": 1.5,
    "processes": 1.0,
    "training": 3.5,
    "epoch": 1.5,
    "tensorrt": 1.5,
    "prediction": 2.5,
    "memory": 1.5,
}
"""What a part is expected to take: it begins if so much is left, and may take twice as long (on a CPU six times) if
that is left too."""


def main(arguments: list[str] | None = None) -> None:
    """Run the parts, and write results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default=",".join(MINUTES), metavar="NAME,...")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--camvid", metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=15.0, help="in which all ends")
    parser.add_argument("--wheels", action="store_true", help="print the packages to carry, and end")
    options = parser.parse_args(arguments)
    if options.wheels:
        print(wheels())
        return
    if options.out is None:
        parser.error("--out DIR is needed")
    chosen = options.only.split(",")
    if unknown := set(chosen) - MINUTES.keys():
        parser.error(f"--only {', '.join(sorted(unknown))}: choose among {', '.join(MINUTES)}")
    end = time.monotonic() + 60 * options.minutes
    print(f"missing packages: {', '.join(missing()) or 'none'}", flush=True)
    machine = run_part("machine", options, minutes=1)
    if "failed" in machine:
        parser.error(f"nothing can be run here: {machine['failed']}\n--device cpu tries the script itself")
    file = options.out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results |= machine
    failed, factor = [], 6 if options.device == "cpu" else 2
    for name in chosen:
        began, left = time.monotonic(), (end - time.monotonic()) / 60
        if left < MINUTES[name]:
            why = f"expected to take {MINUTES[name]:g} minutes, and {max(left, 0):.1f} were left; --only {name}"
            print(f"{name}: not run: {why}", flush=True)
            results.setdefault(name, {"not run": why})  # what an earlier run has found is kept
        else:
            found = run_part(name, options, minutes=min(factor * MINUTES[name], left))
            results[name] = {**found, "seconds": round(time.monotonic() - began, 1)}
            print(f"{name}: {json.dumps(results[name])[:1500]}", flush=True)
            failed += [name] if "failed" in found else []
        file.write_text(json.dumps(results, indent=1))
        (options.out / "results.md").write_text(page(results))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; {options.out / 'results.md'} says why")


def run_part(name: str, options: argparse.Namespace, *, minutes: float) -> dict[str, Any]:
    """What a part found, or why it failed; its processes are ended at the limit."""
    folder = options.out / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    log, found = folder / f"{name}.log", folder / f"{name}.json"
    found.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu.parts", name, "--out", str(options.out), "--found", str(found)]
    command += ["--device", options.device, *(["--camvid", options.camvid] if options.camvid else [])]
    why = "it ended without a result"
    try:
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, env=environment(), stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
            try:
                process.wait(60 * minutes)
            except subprocess.TimeoutExpired:
                why = f"no end after {minutes:.1f} minutes"
            finally:
                _end(process)
        if found.exists():
            result: dict[str, Any] = json.loads(found.read_text())
            return result
    except Exception as error:  # whatever it is, the other parts run
        why = f"{type(error).__name__}: {error}"
    return {"failed": f"{why}\n{log.read_text(errors='replace')[-1500:]}".strip()}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what still runs of a part: interrupted first, so that it ends its own processes."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment() -> dict[str, str]:
    """With the checkout's package, and what deterministic matrix products on a GPU need."""
    path = os.pathsep.join(["src", ".", *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "HF_HUB_OFFLINE": "1"}


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# On a GPU", "", results["machine"], ""]
    for name in MINUTES:
        if name in results:
            lines += [f"## {name}", ""]
            for key, value in results[name].items():
                several = value if isinstance(value, list) else str(value).splitlines()
                lines += (
                    [f"- {key}: {several[0]}"]
                    if len(several) == 1
                    else [f"- {key}:", "", *map("      {}".format, several)]
                )
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
