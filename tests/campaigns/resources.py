"""Full disks, little memory, few files and processes, read-only folders: one line, or the whole result."""

import random
import resource
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from campaigns.harness import Outcome, Trial, address_space, contents, leftovers, pyramidseg
from campaigns.made_inputs import TRAINING, make_images, make_model, make_scenes

NOT_OURS = ("Exception ignored in thread started by", "in _engine_run_backward")
"""Where memory runs out: CPython waits for ever for a thread that could not begin (python/cpython#140746), and PyTorch
crashes where it starts the threads of its first backward pass. Such trials are not counted."""

REASONS = (
    *("cannot be written", "cannot be read", "permission denied", "out of memory", "too many open files"),
    *("too many threads or processes", "out of memory or threads", "free memory", "no folder can be created"),
)
"""What the one line says, among other things."""


def resources(shared: Path) -> Trial:
    """`predict`, `inspect`, `convert`, `evaluate`, `train` or `export` with a limit that is drawn at random.

    A file that is visible after an error is complete: it is as in the undisturbed run.
    """
    model, data = make_model(shared / "model.safetensors"), make_scenes(shared / "scenes")
    images = make_images(shared / "images", 12)
    commands: dict[str, tuple[object, ...]] = {
        "predict": ("predict", model, images),
        "inspect": ("inspect", data),
        "convert": ("convert", data, "--to", "coco"),
        "evaluate": ("evaluate", shared / "run" / "best.safetensors", data),
        "train": ("train", data, "--epochs", 1, *TRAINING),
        "loading": ("train", data, "--epochs", 1, *TRAINING, "data.workers=2"),
        "export": ("export", model, "--format", "torch"),
    }
    compared = {"predict": ".png", "convert": "", "train": "last.safetensors", "loading": "last.safetensors"}
    outcome = pyramidseg(*commands["train"], "--out", shared / "run", folder=shared)
    assert outcome.status == 0, outcome.stderr
    whole: dict[str, dict[str, bytes]] = {}

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        name = rng.choice([*list(commands)[:-1] * 4, "export"])
        if name not in whole:
            outcome = pyramidseg(*commands[name], "--out", shared / name, folder=shared, seconds=300)
            assert outcome.status in (0, 3), outcome.stderr
            whole[name] = _outputs(shared / name)
        what, options = _limit(rng, max(map(len, whole[name].values())))
        out = folder / "work" / "out"
        out.parent.mkdir()
        if what == "read-only folder":
            for closed in (out, out.parent)[: 1 + rng.randrange(2)]:
                closed.mkdir(exist_ok=True)
                closed.chmod(0o555)
        outcome = pyramidseg(*commands[name], "--out", out, folder=folder, seconds=120, **options)
        failure = outcome.failure(allowed=(0, 2, 3) if name in ("predict", "inspect") else (0, 2)) or leftovers(folder)
        failure = failure or _unexplained(outcome)
        if what == "memory" and outcome.status < 0 and any(sign in outcome.stderr for sign in NOT_OURS):
            shutil.rmtree(folder / "work")
            return []
        if failure is None and name in compared:
            failure = _partial(_outputs(out), whole[name], compared[name], done=outcome.status == 0)
        shutil.rmtree(folder / "work")
        return [failure and f"{name}, {what} {options.get('limits', '')}: {failure}"]

    return trial


def _limit(rng: random.Random, largest: int) -> tuple[str, dict[str, Any]]:
    """What is scarce, and the options of `start` that make it so."""
    match rng.randrange(5):
        case 0:
            return "disk", {"limits": {resource.RLIMIT_FSIZE: rng.randrange(1000, 1000 + int(1.1 * largest))}}
        case 1:
            return "memory", {"limits": address_space(10 ** rng.uniform(0, 3))}
        case 2:
            return "files", {"limits": {resource.RLIMIT_NOFILE: rng.randint(8, 60)}}
        case 3:
            return "processes", {"limits": {resource.RLIMIT_NPROC: rng.randint(1, 12)}, "unprivileged": True}
        case _:
            return "read-only folder", {"unprivileged": True}


def _unexplained(outcome: Outcome) -> str | None:
    if outcome.status == 2 and not any(reason in outcome.stderr for reason in REASONS):
        return f"the message names another reason: {outcome.stderr.strip()[-300:]}"
    return None


def _outputs(out: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(out).items() if "ledger/" not in name}


def _partial(found: Mapping[str, bytes], wanted: Mapping[str, bytes], end: str, *, done: bool) -> str | None:
    """A failure if files are not complete, or one is missing although the command is done."""
    names = [name for name in wanted if name.endswith(end)]
    wrong = [name for name in names if name in found and found[name] != wanted[name]]
    missing = [name for name in names if done and name not in found]
    return f"not complete: {wrong[:3]}; missing: {missing[:3]}" if wrong or missing else None
