"""Peak memory of prediction and of training steps, each contestant in a process of its own.

`python -m benchmarks.speed.memory SPEC`, from the root of the checkout, prints bytes; SPEC is JSON, as `_peak` has it.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.models import Files
from benchmarks.speed.prediction import Contestant, contestants, open_contestant
from benchmarks.speed.prediction import group_name as prediction_group
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Bench
from benchmarks.speed.training import ENCODER, Task, made_batch, open_trainer
from benchmarks.speed.training import contestants as trainers
from benchmarks.speed.training import group_name as training_group

from pyramidseg.benchmark.images import scene_images
from pyramidseg.benchmark.memory import import_runtimes, peak_growth
from pyramidseg.predict.processors import use_available_processors

ROOT = Path(__file__).parents[2]

MIB = 2**20


def measure_memory(bench: Bench) -> list[Row]:
    """One image for every encoder, without the default network; and the training step."""
    settings, device = bench.settings, str(bench.device)
    rows = []
    for encoder in settings.encoders:
        files = bench.workshop.files(encoder)
        bench.say(f"{encoder}: memory of each contestant")
        for contestant in contestants(bench.device, bench.workshop.runtimes):
            if contestant.network == "default":
                continue
            spec = {
                "contestant": asdict(contestant),
                "folder": str(files.folder),
                "encoder": encoder,
                "classes": settings.classes,
                "side_px": settings.side_px,
                "device": device,
            }
            group = prediction_group(encoder, 1, settings.side_px)
            rows.append(Row(group, str(contestant), peak_mb=_peak("prediction", spec)))
    task = Task(ENCODER, settings.classes, settings.batch, settings.crop_px, device)
    bench.say("training steps: memory of each contestant")
    for who in trainers(bench.device):
        rows.append(Row(training_group(task), who, peak_mb=_peak("training", {"who": who, "task": asdict(task)})))
    return rows


def _peak(kind: str, spec: dict[str, Any]) -> float:
    """MiB that a process of its own takes at its peak."""
    command = [sys.executable, "-m", __name__, json.dumps({"kind": kind, **spec})]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {spec}:\n{done.stderr}")
    return int(done.stdout.splitlines()[-1]) / MIB


def predict_once(spec: dict[str, Any]) -> int:
    """Bytes that a contestant of `prediction` takes from its files to its first label map."""
    device = torch.device(spec["device"])
    images = scene_images(1, channels=3, height=spec["side_px"], width=spec["side_px"])

    def work() -> None:
        open_contestant(
            Contestant(**spec["contestant"]),
            Files(Path(spec["folder"])),
            encoder=spec["encoder"],
            classes=spec["classes"],
            device=device,
        )(images)

    return peak_growth(work, device)


def train_once(spec: dict[str, Any]) -> int:
    """Bytes that a contestant of `training` takes for its first steps."""
    task = Task(**spec["task"])
    batch = made_batch(task)
    with tempfile.TemporaryDirectory() as folder:
        return peak_growth(lambda: open_trainer(spec["who"], task, batch, Path(folder))(), torch.device(task.device))


KINDS = {"prediction": predict_once, "training": train_once}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    use_available_processors()
    import_runtimes()
    print(KINDS[given.pop("kind")](given))
