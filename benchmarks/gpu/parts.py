"""The parts of benchmarks.gpu, each in a process of its own: `python -m benchmarks.gpu.parts NAME --found FILE ...`."""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.gpu.tensorrt_engine import measure_tensorrt
from safetensors.torch import load_file

from pyramidseg.base.device import choose_device, has_fast_bf16
from pyramidseg.base.timing import alternate
from pyramidseg.demo.scenes import write_scenes
from pyramidseg.studies.hardware import describe_machine
from pyramidseg.studies.roofline import measure_roofline

SPEEDUP, SHARE = 1.5, 0.6
"""Asked of the training step: against the peer with mixed precision, and of the rate of convolutions alone."""

MATRIX = 8192
KILL_AFTER = 6
"""Steps of a run that is killed; it has 16."""


@dataclass(frozen=True)
class Asked:
    """What a part is given.

    Attributes:
        out: folder of the results.
        camvid: a dataset in the SegNet layout, for epochs; without it they are of synthetic scenes.
    """

    device: str
    out: Path
    camvid: str | None


def main() -> None:
    """Run one part, and write what it found, or why it failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("--found", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--camvid")
    options = parser.parse_args()
    try:
        found = PARTS[options.name](Asked(options.device, options.out, options.camvid))
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
    except Exception as error:  # reported, whatever it is
        found = {"failed": f"{type(error).__name__}: {error}"[-3000:]}
    options.found.write_text(json.dumps(found))


def describe(asked: Asked) -> dict[str, Any]:
    """The machine; `DeviceError` if it does not have the device."""
    return {"machine": str(describe_machine(choose_device(asked.device), "segmentation-models-pytorch", "tensorrt"))}


def run_tests(asked: Asked) -> dict[str, Any]:
    """The tests marked `gpu`; the modules of others may need packages that are not in the list of wheels."""
    del asked
    marked = [str(file) for file in sorted(Path("tests").rglob("test_*.py")) if "pytest.mark.gpu" in file.read_text()]
    return {"pytest": command("-m", "pytest", "-q", "-m", "gpu", *marked).splitlines()[-1]}


def measure_rates(asked: Asked) -> dict[str, Any]:
    """TFLOP/s of one large matrix product and of the best convolution, medians of alternating rounds."""
    device = asked.device
    side = MATRIX if device == "cuda" else 512
    kinds = {"fp32": torch.float32, "fp16": torch.float16}
    if has_fast_bf16(torch.device(device)):
        kinds["bf16"] = torch.bfloat16
    if device == "cpu":
        del kinds["fp16"]
    matrices = {name: torch.randn(side, side, device=device, dtype=dtype) for name, dtype in kinds.items()}
    calls = {name: (lambda matrix=matrix: matrix @ matrix) for name, matrix in matrices.items()}
    timings = alternate(calls, rounds=9, device=torch.device(device))
    convolutions = measure_roofline(torch.device(device))
    return {
        "matrix TFLOP/s": {name: round(2 * side**3 / timing.median / 1e12, 2) for name, timing in timings.items()},
        "convolution TFLOP/s": {name: round(rate / 1e12, 2) for name, rate in convolutions.flop_per_second.items()},
    }


def check_resume(asked: Asked) -> dict[str, Any]:
    """Whether a run that was killed and resumed ends in the bits of one that was not."""
    device = asked.device
    precisions = ["fp32", "fp16", *(["bf16"] if has_fast_bf16(torch.device(device)) else [])]
    if device == "cpu":
        precisions.remove("fp16")
    with tempfile.TemporaryDirectory() as folder:
        scenes = made_scenes(Path(folder))
        return {precision: _resumes(scenes, Path(folder), device, precision) for precision in precisions}


def _resumes(scenes: Path, folder: Path, device: str, precision: str) -> str:
    options = (f"train.device={device}", f"train.precision={precision}", "train.deterministic=true")
    whole, killed = folder / f"{precision}-whole", folder / f"{precision}-killed"
    command(*train(scenes, whole, *options))
    process = subprocess.Popen(
        [sys.executable, *train(scenes, killed, *options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wanted = f"step-{KILL_AFTER:09d}.safetensors"
    try:
        while process.poll() is None and not (killed / "checkpoint" / wanted).exists():
            time.sleep(0.005)
    finally:  # also where this part is interrupted at its limit
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    command(*train(scenes, killed, *options), "--resume")
    tensors, expected = (load_file(run / "last.safetensors") for run in (killed, whole))
    differing = [name for name in expected if not torch.equal(tensors[name], expected[name])]
    kind = "killed" if process.returncode == -signal.SIGKILL else "not killed in time"
    return f"{kind}; {len(expected) - len(differing)} of {len(expected)} tensors equal"


def try_processes(asked: Asked) -> dict[str, Any]:
    """Training by two processes on one card, and by one under NCCL."""
    device, found = asked.device, {}
    with tempfile.TemporaryDirectory() as folder:
        scenes = made_scenes(Path(folder))
        for count in (2, 1):
            run = Path(folder) / f"by{count}"
            launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count))
            place = f"train.device={device}:0" if device == "cuda" else "train.device=cpu"
            text = command(*launcher, *train(scenes, run, place))
            lines = [line for line in text.splitlines() if "process" in line or "best epoch" in line]
            found[f"{count} processes"] = "; ".join(lines)[-300:]
    return found


def measure_speed(asked: Asked, *, section: str) -> dict[str, Any]:
    """A section of `benchmarks.speed`; on a CPU a glance only."""
    where = asked.out / "speed"
    small = ("--rounds", "1", "--size", "64", "--crop", "64") if asked.device == "cpu" else ()
    text = command(
        *("-m", "benchmarks.speed", "--out", str(where), "--only", section, "--device", asked.device, *small),
        *("--encoders", "resnet18", "--table", str(where / "README.md")),
        *(("--camvid", asked.camvid) if asked.camvid else ()),
    )
    lines = [line.strip() for line in text.splitlines() if line.startswith(("  ", "met", "MISSED"))]
    return {**(training_goals(where) if section == "training" else {}), "output": lines}


def training_goals(where: Path) -> dict[str, Any]:
    """What is asked of a training step on a card: our best way of taking it, and how near it comes."""
    from benchmarks.speed.results import RESULTS
    from benchmarks.speed.training import ON_GPU, OURS, TUNED  # these need the peer, whose absence is reported first

    sections = json.loads((where / RESULTS).read_text())["sections"]
    ours = [row for row in sections["training"]["rows"] if row["who"] in (OURS, *ON_GPU)]
    ratios = {row["who"]: row["times_as_fast"][TUNED] for row in ours}
    shares = {row["who"]: row["share_of_floor"] for row in ours if row["share_of_floor"] is not None}
    found = {}
    for what, asked, by in (
        (f"times as fast as {TUNED}", SPEEDUP, ratios),
        ("share of cuDNN's rate", SHARE, shares),
    ):
        who = max(by, key=by.__getitem__, default="")
        found[f"training step, {what}"] = f"{by.get(who, math.nan):.2f} ({who}), asked {asked}"
    return found


PARTS: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "machine": describe,
    "tests": run_tests,
    "rates": measure_rates,
    "resume": check_resume,
    "processes": try_processes,
    "training": partial(measure_speed, section="training"),
    "epoch": partial(measure_speed, section="epoch"),
    "tensorrt": lambda asked: measure_tensorrt(asked.device),
    "prediction": partial(measure_speed, section="prediction"),
    "memory": partial(measure_speed, section="memory"),
}


def made_scenes(folder: Path) -> Path:
    """A made dataset of 32 training images."""
    scenes = folder / "scenes"
    if not scenes.exists():
        write_scenes(scenes, train=32, val=8, height=128, width=160)
    return scenes


def train(scenes: Path, run: Path, *settings: str) -> tuple[str, ...]:
    """Arguments of a training of 16 steps that keeps a checkpoint of each."""
    encoder = "test_resnet" if any("device=cpu" in setting for setting in settings) else "resnet18"
    fixed = (f"model.encoder={encoder}", "model.encoder_weights=none", "data.crop=128", "train.epochs=2")
    fixed += ("train.checkpoint_steps=1", "data.workers=1")
    return ("-m", "pyramidseg", "train", str(scenes), "--out", str(run), *fixed, *settings)


def command(*arguments: str) -> str:
    """Output of a Python command; RuntimeError with the end of it if it fails."""
    lines = []
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)  # for the log, which shows how far a part came
            lines.append(line)
    text = "".join(lines)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: status {process.returncode}\n{text[-2500:]}")
    return text


if __name__ == "__main__":
    main()
