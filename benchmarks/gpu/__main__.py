"""Everything that only a CUDA GPU can show, in one command of about 15 minutes, without network.

    python -m benchmarks.gpu --out DIR                 all
    python -m benchmarks.gpu --out DIR --only resume   a part; the rest of DIR/results.json is kept
    python -m benchmarks.gpu --out DIR --device cpu    the same commands on a CPU, to try the script itself
    python -m benchmarks.gpu --out DIR --camvid FOLDER with epochs of CamVid (SegNet layout), some minutes more

It runs from the root of a checkout, with nothing installed but what `NEEDED` lists; a package that is missing is named
at the start. Each part is a process of its own with a time limit; DIR/results.json is written after each, and
DIR/results.md at the end. A part that fails is reported with the end of its output; the others still run.

    tests       the tests that are marked `gpu`
    rates       matrix products and convolutions alone, in the card's precisions
    resume      training with train.deterministic, killed and resumed: all tensors equal, in each precision
    processes   two processes on one card (gloo, as NCCL refuses two ranks on one card), and NCCL with one process
    tensorrt    engines of exported ONNX files against PyTorch, where the package tensorrt is installed
    speed       training steps, prediction and memory against segmentation_models.pytorch: benchmarks.speed

Asked of the training step, and printed with it: 1.5 times segmentation_models.pytorch with channels_last and mixed
precision, and 60 % of the rate that cuDNN's convolutions reach in the same run.
"""

import argparse
import importlib.metadata
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.gpu.tensorrt_engine import measure_tensorrt
from safetensors.torch import load_file

from pyramidseg.base.device import has_fast_bf16
from pyramidseg.base.timing import alternate
from pyramidseg.demo.scenes import write_scenes
from pyramidseg.studies.hardware import describe_machine
from pyramidseg.studies.roofline import measure_roofline

NEEDED = ("torch", "torchvision", "timm", "safetensors", "numpy", "pillow", "opencv-python-headless", "pydantic")
NEEDED += ("PyYAML", "rich", "matplotlib", "tensorboard", "pytest", "hypothesis", "segmentation-models-pytorch")
"""Packages to carry to a machine without network, as wheels: where there is one, `pip download --constraint
requirements.txt` and these names, after `grep == requirements-dev.lock | cut -d' ' -f1 > requirements.txt`."""

SPEEDUP, SHARE = 1.5, 0.6
"""Asked of the training step: against the peer with mixed precision, and of the rate of convolutions alone."""

MATRIX = 8192
KILL_AFTER = 6
"""Steps of a run that is killed; it has 16."""

Say = Callable[[str], None]


def main() -> None:
    """Run the parts, and write results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(PARTS), metavar="NAME,...")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--camvid", metavar="FOLDER")
    options = parser.parse_args()
    if unknown := set(options.only.split(",")) - PARTS.keys():
        parser.error(f"--only {', '.join(unknown)}: choose among {', '.join(PARTS)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA GPU is available to this build of torch; --device cpu tries the script itself")
    missing = [name for name in NEEDED if not _version(name)]
    print(f"missing packages: {', '.join(missing) or 'none'}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    results["machine"] = str(describe_machine(torch.device(options.device), *NEEDED))
    for name in options.only.split(","):
        began = time.monotonic()
        try:
            given = {"camvid": options.camvid} if name == "speed" else {}
            found = PARTS[name](options.device, options.out, **given)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            found = {"failed": str(error)[-3000:]}
        results[name] = {**found, "seconds": round(time.monotonic() - began, 1)}
        file.write_text(json.dumps(results, indent=1))
        print(f"{name}: {json.dumps(results[name])[:1500]}", flush=True)
    (options.out / "results.md").write_text(page(results))


def run_tests(device: str, out: Path) -> dict[str, Any]:
    """The tests marked `gpu`; the modules of others may need packages that are not in `NEEDED`."""
    del device, out
    marked = [str(file) for file in sorted(Path("tests").rglob("test_*.py")) if "pytest.mark.gpu" in file.read_text()]
    return {"pytest": command("-m", "pytest", "-q", "-m", "gpu", *marked, minutes=4).splitlines()[-1]}


def measure_rates(device: str, out: Path) -> dict[str, Any]:
    """TFLOP/s of one large matrix product and of the best convolution, medians of alternating rounds."""
    del out
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


def check_resume(device: str, out: Path) -> dict[str, Any]:
    """Whether a run that was killed and resumed ends in the bits of one that was not."""
    precisions = ["fp32", "fp16", *(["bf16"] if has_fast_bf16(torch.device(device)) else [])]
    if device == "cpu":
        precisions.remove("fp16")
    with tempfile.TemporaryDirectory() as folder:
        scenes = made_scenes(Path(folder))
        return {precision: _resumes(scenes, Path(folder), device, precision) for precision in precisions}


def _resumes(scenes: Path, folder: Path, device: str, precision: str) -> str:
    options = (f"train.device={device}", f"train.precision={precision}", "train.deterministic=true")
    whole, killed = folder / f"{precision}-whole", folder / f"{precision}-killed"
    command(*train(scenes, whole, *options), minutes=3)
    process = subprocess.Popen(
        [sys.executable, *train(scenes, killed, *options)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wanted = f"step-{KILL_AFTER:09d}.safetensors"
    while process.poll() is None and not (killed / "checkpoint" / wanted).exists():
        time.sleep(0.005)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    command(*train(scenes, killed, *options), "--resume", minutes=3)
    tensors, expected = (load_file(run / "last.safetensors") for run in (killed, whole))
    differing = [name for name in expected if not torch.equal(tensors[name], expected[name])]
    kind = "killed" if process.returncode == -signal.SIGKILL else "not killed in time"
    return f"{kind}; {len(expected) - len(differing)} of {len(expected)} tensors equal"


def try_processes(device: str, out: Path) -> dict[str, Any]:
    """Training by two processes on one card, and by one under NCCL."""
    del out
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        scenes = made_scenes(Path(folder))
        for count in (2, 1):
            run = Path(folder) / f"by{count}"
            launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count))
            place = f"train.device={device}:0" if device == "cuda" else "train.device=cpu"
            text = command(*launcher, *train(scenes, run, place), minutes=3)
            lines = [line for line in text.splitlines() if "process" in line or "best epoch" in line]
            found[f"{count} processes"] = "; ".join(lines)[-300:]
    return found


def measure_speed(device: str, out: Path, *, camvid: str | None = None) -> dict[str, Any]:
    """`benchmarks.speed` in its parts that a card changes; on a CPU a glance only."""
    small = () if device == "cuda" else ("--rounds", "1", "--encoders", "resnet18", "--size", "64", "--crop", "64")
    parts = ["training", *(["prediction", "memory"] if device == "cuda" else []), *(["epoch"] if camvid else [])]
    where = out / "speed"
    text = command(
        *("-m", "benchmarks.speed", "--out", str(where), "--only", ",".join(parts), "--device", device, *small),
        *("--table", str(where / "README.md"), *(("--camvid", camvid) if camvid else ())),
        minutes=10 + 10 * bool(camvid),
    )
    lines = [line for line in text.splitlines() if line.startswith(("  ", "met", "MISSED"))]
    return {**training_goals(where), "output": lines}


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


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "tests": run_tests,
    "rates": measure_rates,
    "resume": check_resume,
    "processes": try_processes,
    "tensorrt": measure_tensorrt,
    "speed": measure_speed,
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


def command(*arguments: str, minutes: float) -> str:
    """Output of a Python command; RuntimeError with the end of it if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60 * minutes,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: status {done.returncode}\n{done.stdout[-2500:]}")
    return done.stdout


def environment() -> dict[str, str]:
    """With the checkout's package, and what deterministic matrix products on a GPU need."""
    path = os.pathsep.join(["src", ".", *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "CUBLAS_WORKSPACE_CONFIG": ":4096:8", "HF_HUB_OFFLINE": "1"}


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["# On a GPU", "", results["machine"], ""]
    for name in PARTS:
        if name in results:
            lines += [f"## {name}", "", *(f"- {key}: {value}" for key, value in results[name].items()), ""]
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
