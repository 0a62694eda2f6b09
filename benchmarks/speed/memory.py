"""Peak memory of prediction, of training steps and of folders, each contestant in a process of its own.

`python -m benchmarks.speed.memory SPEC`, from the root of the checkout, prints bytes; SPEC is JSON, as `_peak` has it.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.folder import BATCH, write_images
from benchmarks.speed.models import Files
from benchmarks.speed.prediction import Contestant, contestants, open_contestant
from benchmarks.speed.prediction import group_name as prediction_group
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Bench
from benchmarks.speed.training import ENCODER, Task, made_batch, open_trainer
from benchmarks.speed.training import contestants as trainers
from benchmarks.speed.training import group_name as training_group

from pyramidseg.backends import TorchBackend
from pyramidseg.predict.pipeline import use_available_processors
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.studies.benchmark_images import scene_images
from pyramidseg.studies.process_memory import import_runtimes, peak_growth

ROOT = Path(__file__).parents[2]

MIB = 2**20

FEW, MANY = "a folder of 100 files", "a folder of 10,000 files"

FOLDERS = {FEW: 100, MANY: 10_000}
"""Files by contestant: what is kept for each of them would show."""

FILE_PX = 64
"""Side of these files, so that ten thousand take a minute or two."""

FOLDER_ROUNDS = 3
"""Which threads meet when moves the peak of a folder by a tenth, so that each has several processes, in turn."""


def measure_memory(bench: Bench) -> list[Row]:
    """One image for every encoder; the training step; and folders, few files and many."""
    settings, device = bench.settings, str(bench.device)
    rows = []
    for encoder in settings.encoders:
        files = bench.workshop.files(encoder)
        bench.say(f"{encoder}: memory of each contestant")
        for contestant in contestants(bench.device, bench.workshop.runtimes):
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
    return rows + measure_folders(bench)


def measure_folders(bench: Bench) -> list[Row]:
    """`pyramidseg predict` on few files and on many, with the first encoder's default network."""
    encoder = bench.settings.encoders[0]
    bundle = bench.workshop.files(encoder).bundle("default")
    bench.say(f"{encoder}: memory of {' and '.join(FOLDERS)}")
    peaks: dict[str, list[float]] = {who: [] for who in FOLDERS}
    for _ in range(FOLDER_ROUNDS):
        for who, count in FOLDERS.items():
            peaks[who].append(_peak("folder", {"bundle": str(bundle), "count": count, "device": str(bench.device)}))
    group = f"{encoder} with smoothing, files of {FILE_PX}x{FILE_PX}"
    return [Row(group, who, peak_mb=statistics.median(found)) for who, found in peaks.items()]


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


def predict_folder(spec: dict[str, Any]) -> int:
    """Bytes that `pyramidseg predict` takes for a folder of `count` files."""
    device = torch.device(spec["device"])
    with tempfile.TemporaryDirectory() as name:
        files, out = Path(name) / "images", Path(name) / "out"
        (file,) = write_images(files, scene_images(1, channels=3, height=FILE_PX, width=FILE_PX))
        for index in range(1, spec["count"]):
            shutil.copyfile(file, files / f"{index:05}.png")

        def work() -> None:
            predict_files(Predictor(TorchBackend(Path(spec["bundle"]), device=device)), [files], out, batch_size=BATCH)

        return peak_growth(work, device)


KINDS = {"prediction": predict_once, "training": train_once, "folder": predict_folder}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    use_available_processors()
    import_runtimes()
    print(KINDS[given.pop("kind")](given))
