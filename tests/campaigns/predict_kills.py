"""Kill `pyramidseg predict` at random moments, run it again, and compare the result with that of one whole run.

    python -m tests.campaigns.predict_kills --kills 100

After every kill: every output is a complete file, every line of the ledger but the last of a file is whole, and the
outputs that the ledger names are there. In the end: outputs and `predictions.json` equal those of the whole run, byte
by byte; no image that the ledger held was predicted again; no temporary file is left.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SAVE = "mask,overlay"


def main() -> None:
    """Run the campaign and print its counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(run_campaign(Path(folder), kills=arguments.kills, images=arguments.images, seed=arguments.seed))


def run_campaign(folder: Path, *, kills: int, images: int, seed: int) -> dict[str, int]:
    """Kill `kills` processes; returns how many were killed, runs completed, and images that were in the ledger then."""
    model, source, rng = (
        make_model(folder / "model.safetensors"),
        make_images(folder / "images", images),
        random.Random(seed),
    )
    run(model, source, folder / "first", kill_after=None)  # starts the server, which imports everything
    seconds = run(model, source, folder / "whole", kill_after=None)
    wanted = contents(folder / "whole")
    assert len(wanted) == 2 * images + 1
    counts = {"killed": 0, "completed": 0, "kept": 0}
    out = folder / "out"
    while True:
        after = rng.uniform(0, 1.1) * seconds if counts["killed"] < kills else None
        if run(model, source, out, kill_after=after) is None:
            counts["killed"] += 1
            counts["kept"] += check_after_kill(out)
            continue
        assert contents(out) == wanted
        keys = [line["key"] for line in ledger_lines(out)]
        assert len(keys) == len(set(keys)) == images + 1, "an image was predicted again, or is missing"
        assert not [path for path in out.rglob("*") if path.name.startswith(".")], "temporary files are left"
        counts["completed"] += 1
        if counts["killed"] >= kills:
            return counts
        shutil.rmtree(out)


def run(model: Path, source: Path, out: Path, *, kill_after: float | None) -> float | None:
    """Predict in a process; returns its seconds, or None if it was killed.

    Processes are forked from one that has imported everything, so that a kill hits the work and not the imports.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pyramidseg.predict.predict_files", "pyramidseg.cli.main"])
    started = time.monotonic()
    process = context.Process(target=predict, args=(str(model), str(source), str(out)))
    process.start()
    process.join(600 if kill_after is None else max(kill_after, 0))
    if process.exitcode is None:
        assert kill_after is not None, "it hangs"
        process.kill()
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
    return time.monotonic() - started if process.exitcode == 0 else None


def predict(model: str, source: str, out: str) -> None:
    """The command line, in a process of its own."""
    from pyramidseg.cli.main import main as command_line

    with Path(os.devnull).open("w") as sys.stdout:
        sys.exit(command_line(["predict", model, source, "--out", out, "--save", SAVE, "--quiet"]))


def check_after_kill(out: Path) -> int:
    """Check a folder whose process was killed; returns the number of images in its ledger."""
    for path in out.rglob("*.png") if out.exists() else ():
        if not any(part.startswith(".") for part in path.relative_to(out).parts):
            with Image.open(path) as picture:
                picture.load()
    lines = ledger_lines(out)
    for line in lines:
        for name in line.get("outputs", {}).values():
            assert (out / name).is_file(), f"{name} is in the ledger, but does not exist"
    return sum("outputs" in line for line in lines)


def ledger_lines(out: Path) -> list[dict[str, object]]:
    """The complete lines of the ledger."""
    texts = [path.read_text() for path in sorted(out.glob("ledger/*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def contents(out: Path) -> dict[str, bytes]:
    """All files but the ledger's, by relative name."""
    names = (path for path in out.rglob("*") if path.is_file() and path.parent.name != "ledger")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in names}


def make_images(folder: Path, count: int) -> Path:
    """Pictures of random shades, in two subfolders."""
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index % 2}" / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(np.repeat(rng.integers(0, 256, (6, 8, 3), np.uint8), 16, 0), 16, 1)).save(path)
    return folder


def make_model(path: Path) -> Path:
    """A tiny untrained model."""
    import torch

    from pyramidseg.model.segmenter import Segmenter

    torch.manual_seed(0)
    model = Segmenter(
        num_classes=4, encoder="test_resnet", encoder_weights="none", pyramid_channels=8, segmentation_channels=8
    )
    model.save(path)
    return path


if __name__ == "__main__":
    main()
