"""Names that are not UTF-8, long, or hold control characters; terminals and locales that cannot print them."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from campaigns.harness import Trial, leftovers, pyramidseg
from campaigns.made_inputs import TRAINING, make_model

NAMES = (
    *(
        b"latin\xe9",
        "漢字 é".encode(),
        b"\xff\xfe\x80",
        b"new\nline",
        b"\rback",
        b"esc\x1b[2J",
        b"\x1b]0;own\x07",
        b"-dash",
    ),
    *(
        b"--out",
        b"100%25",
        b"a.b.c",
        b" blank ",
        b"=cmd|'A0",
        b"<b>&amp;",
        b"quote\"'",
        b"semi;colon",
        b"*?[x]",
        b"~",
        b"\x01",
    ),
    *(b"x" * 200, b"\xe9" * 120, "é".encode() * 60, b"#hash", b"C:\\back\\slash", "\u202ertl".encode()),
)
LONG = tuple(letter * length for letter in (b"y", b"\xe9") for length in range(241, 251))
"""With a letter and a suffix these have up to 255 bytes, as many as file systems take."""

ENCODINGS: tuple[dict[str, str], ...] = (
    {},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "cp1252"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)
"""Of the output; the last one also of file names."""

IMAGES = 4


def odd_names(shared: Path) -> Trial:
    """`predict`, `inspect`, `train` or `evaluate` on images with such names, in such folders."""
    model = make_model(shared / "model.safetensors")
    pixels = np.kron(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    mask = np.repeat(np.arange(64, dtype=np.uint8)[:, None] // 16, 64, axis=1)
    Image.fromarray(pixels).save(shared / "image.png")
    Image.fromarray(mask).save(shared / "mask.png")
    outcome = pyramidseg("predict", model, "image.png", "--out", "whole", "--save", "mask,overlay", folder=shared)
    assert outcome.status == 0, outcome.stderr
    wanted = {name: (shared / "whole" / f"image{end}.png").read_bytes() for name, end in _ENDS.items()}
    _write_dataset(shared / "plain", [b"a", b"b", b"c", b"d"], shared)
    outcome = pyramidseg("evaluate", model, "plain", "--out", "metrics", "--device", "cpu", folder=shared)
    assert outcome.status == 0, outcome.stderr
    metrics = (shared / "metrics" / "metrics.json").read_bytes()

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        command, environment = rng.choice(("predict", "inspect", "train", "evaluate")), rng.choice(ENCODINGS)
        if "PYTHONUTF8" in environment and rng.random() < 0.7:  # a new interpreter takes seconds
            environment = ENCODINGS[1]
        names = [*rng.sample(NAMES[1:], IMAGES - 1), rng.choice(LONG if rng.random() < 0.5 else NAMES[:1])]
        root = folder / os.fsdecode(rng.choice([name for name in NAMES if len(name) < 20]))
        out = folder / os.fsdecode(rng.choice([b"out", b"r\xe9n", b"o\nut", "né".encode(), b"o\x1b[2Jut"]))
        _write_dataset(root, names, shared)
        options = {"folder": folder, "environment": environment, "seconds": 120}
        match command:
            case "predict":
                save = rng.choice(("mask", "mask,overlay"))
                source = root / "val" / "images"
                outcome = pyramidseg(command, model, source, "--out", out, "--save", save, **options)
                failure = outcome.failure(allowed=(0, 3)) or _predicted(out, wanted, save.split(","), outcome.status)
            case "inspect":
                outcome = pyramidseg(command, root, "--out", out, **options)
                failure = outcome.failure(allowed=(0, 3)) or _inspected(out)
            case "evaluate":
                outcome = pyramidseg(command, model, root, "--out", out, "--device", "cpu", **options)
                failure = outcome.failure(allowed=(0,))
                if failure is None and (out / "metrics.json").read_bytes() != metrics:
                    failure = "other metrics than those of the same images with plain names"
            case _:
                more = (*TRAINING, "data.allow_leak=true")  # all images are the same
                outcome = pyramidseg(command, root, "--out", out, "--epochs", 1, *more, **options)
                failure = outcome.failure(allowed=(0, 2) if "TensorBoard" in outcome.stderr else (0,))
                if failure is None and outcome.status == 0 and not (out / "report.html").exists():
                    failure = "no report"
        failure = failure or leftovers(folder)
        shutil.rmtree(root)
        return [failure and f"{command} {names} {out.name!r} {environment}: {failure}"] + [None] * (IMAGES - 1)

    return trial


_ENDS = {"mask": "", "overlay": "_overlay"}


def _write_dataset(root: Path, names: list[bytes], shared: Path) -> None:
    for split in ("train", "val"):
        for kind in ("image", "mask"):
            folder = root / split / f"{kind}s"
            folder.mkdir(parents=True)
            for name in names:
                # no two splits have the same image
                (folder / os.fsdecode(name + split[:1].encode() + b".png")).write_bytes(
                    (shared / f"{kind}.png").read_bytes()
                )


def _predicted(out: Path, wanted: dict[str, bytes], save: list[str], status: int) -> str | None:
    """Each image has its outputs, or an entry with an error if the name of an output would be too long."""
    entries = json.loads((out / "predictions.json").read_bytes())["images"]
    if len(entries) != IMAGES:
        return f"{len(entries)} entries instead of {IMAGES}"
    for entry in entries:
        longest = max(len(os.fsencode(Path(entry["image"]).stem + _ENDS[name] + ".png")) for name in save)
        if ("error" in entry) != (longest > 255):
            return f"{entry}: an entry with an error if, and only if, an output's name has more than 255 bytes"
        if any((out / entry["outputs"][name]).read_bytes() != wanted[name] for name in save if "error" not in entry):
            return f"{entry}: another output than that of the same image with a plain name"
    return None if (status == 3) == any("error" in entry for entry in entries) else f"status {status}"


def _inspected(out: Path) -> str | None:
    splits = json.loads((out / "inspection.json").read_bytes())["splits"]
    counts = {split: facts["counted"] for split, facts in splits.items()}
    return None if counts == {"train": IMAGES, "val": IMAGES} else f"counted {counts}"
