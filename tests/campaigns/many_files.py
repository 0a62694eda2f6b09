"""`predict` and `inspect` on 20,000 images, of which a random share cannot be read: right counts, bounded memory."""

import json
import os
import random
import shutil
from pathlib import Path

import cv2
import numpy as np

from campaigns.harness import Outcome, Trial, leftovers, pyramidseg
from campaigns.made_inputs import make_model

FILES = int(os.environ.get("CAMPAIGN_FILES", "20000"))

GROWTH_MB = 100
"""What a command may take more for `FILES` images than for a twentieth of them: entries and records, no pixels."""


def many_files(shared: Path) -> Trial:
    """One of the two commands on a folder; each file is a case."""
    model = make_model(shared / "model.safetensors")
    memory: dict[str, float] = {}

    def run(command: str, files: int, rng: random.Random, folder: Path) -> tuple[Outcome, str | None]:
        source, out = folder / "in", folder / "out"
        bad = _write_files(source, files, share=rng.choice((0.0, 0.001, 0.02, 0.3)), rng=rng)
        words = (model, source / "train" / "images") if command == "predict" else (source,)
        outcome = pyramidseg(command, *words, "--out", out, "--quiet", folder=folder, seconds=3600)
        failure = outcome.failure(allowed=(3,) if bad else (0, 3)) or leftovers(out)
        judge = _predicted if command == "predict" else _inspected
        failure = failure or judge(out, files, bad)
        shutil.rmtree(source)
        shutil.rmtree(out, ignore_errors=True)
        return outcome, failure

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        command = rng.choice(("predict", "inspect"))
        if command not in memory:
            outcome, failure = run(command, FILES // 20, random.Random(0), folder)
            if failure:
                return [failure]
            memory[command] = outcome.memory_mb
        outcome, failure = run(command, FILES, rng, folder)
        if failure is None and outcome.memory_mb > memory[command] + GROWTH_MB:
            failure = f"{outcome.memory_mb:.0f} MB instead of {memory[command]:.0f} for a twentieth of the files"
        return [failure and f"{command}: {failure}"] + [None] * (FILES - 1)

    return trial


def _write_files(root: Path, files: int, *, share: float, rng: random.Random) -> set[str]:
    """Pairs of images and masks in a split, and a second split of two; returns the names of the bad images."""
    bad, noise = set(), np.random.default_rng(rng.randrange(2**32))
    mask = cv2.imencode(".png", np.arange(16, dtype=np.uint8).reshape(4, 4).repeat(4, 0).repeat(4, 1) % 4)[1].tobytes()
    for split, count in (("train", files), ("val", 2)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            name = f"{split}{number:05}.png"
            content = cv2.imencode(".png", noise.integers(0, 256, (16, 16, 3), np.uint8))[1].tobytes()
            if split == "train" and rng.random() < share:
                bad.add(name)
                end = rng.randrange(len(content) - 40)  # without its last 20 bytes, checksums, all pixels can be read
                content = rng.choice((content[:end], b"", b"<html></html>", content[8:]))
            (root / split / "images" / name).write_bytes(content)
            (root / split / "masks" / name).write_bytes(mask)
    return bad


def _predicted(out: Path, files: int, bad: set[str]) -> str | None:
    entries = json.loads((out / "predictions.json").read_bytes())["images"]
    failed = {Path(entry["image"]).name for entry in entries if "error" in entry}
    maps = {path.name for path in out.glob("*.png")}
    if len(entries) != files or failed != bad or len(maps) != files - len(bad) or maps & bad:
        return f"{len(entries)} entries, {len(failed)} errors, {len(maps)} maps of {files} images, {len(bad)} bad"
    return None


def _inspected(out: Path, files: int, bad: set[str]) -> str | None:
    report = json.loads((out / "inspection.json").read_bytes())
    named = {Path(defect["file"]).name for defect in report["defects"]}
    counted = report["splits"]["train"]["counted"]
    if not bad <= named or counted != files - len(bad):
        return f"{len(bad & named)} of {len(bad)} bad images named, {counted} of {files} counted"
    return None
