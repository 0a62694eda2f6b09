"""Two processes with one `--out`: the result is that of one of them, and the other ends with one line."""

import functools
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from campaigns.harness import Running, Trial, content_of, contents, leftovers, pyramidseg
from campaigns.kills import exported
from campaigns.made_inputs import TRAINING, make_images, make_model, make_scenes

Contents = dict[str, object]


def two_processes(shared: Path) -> Trial:
    """Pairs of commands that differ in their seed or model, started within the time that one takes."""
    data, images = make_scenes(shared / "scenes"), make_images(shared / "images", 30)
    models = [make_model(shared / f"{name}" / "model.safetensors", seed=seed) for seed, name in enumerate("ab")]
    train = [("train", data, "--epochs", 1, *TRAINING, "--seed", seed) for seed in (1, 2)]
    predict = [("predict", model, images) for model in models]
    export = [("export", model, "--format", "torch") for model in models]
    inspect = [("inspect", source) for source in (data, make_scenes(shared / "more", train=6))]
    pairs: tuple[tuple[list[tuple[object, ...]], Callable[[Path], Contents]], ...] = (
        (train, _bundles),
        (predict, _label_maps),
        (inspect, _inspection),
        ([train[0], predict[0]], lambda out: _bundles(out) | _label_maps(out)),
        (export, exported),
    )

    @functools.cache
    def alone(number: int, which: int) -> tuple[Contents, float]:
        commands, read = pairs[number]
        out = shared / f"alone{number}{which}"
        outcome = pyramidseg(*commands[which], "--out", out, folder=shared, seconds=300)
        assert outcome.status == 0, outcome.stderr
        return read(out), outcome.seconds

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        number = rng.choice((0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4))
        commands, read = pairs[number]
        order = rng.sample((0, 1), 2)
        wanted = [alone(number, which) for which in order]
        delay = rng.uniform(0, 1.2) * wanted[0][1] if rng.random() < 0.7 else rng.uniform(0, 0.05)
        first = Running(*commands[order[0]], "--out", "out", folder=folder, name="1")
        time.sleep(delay)
        second = Running(*commands[order[1]], "--out", "out", folder=folder, name="2")
        ends = [running.ended(seconds=300) for running in (first, second)]
        failure = next((found for end in ends if (found := end.failure(allowed=(0, 2)))), None)
        failure = failure or leftovers(folder)
        done = [result for end, (result, _) in zip(ends, wanted, strict=True) if end.status == 0]
        if failure is None:
            failure = _judged(read(folder / "out"), done, both=number == 3)
        shutil.rmtree(folder / "out", ignore_errors=True)
        name = "/".join(str(commands[which][0]) for which in order)
        return [failure and f"{name} after {delay:.2f} s: {failure} (statuses {[end.status for end in ends]})"]

    return trial


def _judged(found: Contents, done: list[Contents], *, both: bool) -> str | None:
    """A failure if the folder does not hold the result of one that was done, or, if `both`, of each of these."""
    if not done:
        return "both ended with an error"
    if both:
        return None if found == functools.reduce(dict.__or__, done) else "a result is not complete"
    return None if found in done else "a result of neither, or of both"


def _bundles(out: Path) -> Contents:
    return {path.name: content_of(path) for path in out.glob("*.safetensors")}


def _label_maps(out: Path) -> Contents:
    return {name: content for name, content in contents(out).items() if name[:2] in ("0/", "1/")}


def _inspection(out: Path) -> Contents:
    return {name: (out / name).read_bytes() for name in ("inspection.json", "dataset.yaml")}
