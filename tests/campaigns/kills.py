"""Commands that are killed at random moments and started again end as the undisturbed one, byte for byte.

After each kill, every file that is visible is complete. In the end, no temporary file is left.
"""

import functools
import json
import random
import re
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path

from campaigns.harness import Trial, contents, leftovers, pyramidseg
from campaigns.made_inputs import TRAINING, make_images, make_model, make_scenes

EXPORTS = ("onnx", "openvino", "torch")
CONVERSIONS = ("masks", "color-masks", "voc", "coco", "yolo", "labelme")
BUNDLES = ("best.safetensors", "last.safetensors")

Command = tuple[object, ...]
Compared = Callable[[Path], dict[str, object]]
"""The files of an output folder that a killed and an undisturbed run have in common, with their contents."""


def predict_kills(shared: Path) -> Trial:
    """`predict`: nothing that the ledger holds is predicted again."""
    model, images = make_model(shared / "model.safetensors"), make_images(shared / "images", 60)
    command = ("predict", model, images, "--save", "mask,overlay")

    def check(out: Path) -> str | None:
        keys = [line["key"] for line in ledger_lines(out)]
        return None if len(keys) == len(set(keys)) == 61 else "an image was predicted again, or is missing"

    def predicted(out: Path) -> dict[str, object]:
        return {name: content for name, content in visible(out).items() if not name.startswith("ledger/")}

    return _kills(shared, (command,), predicted, check=check)


def train_kills(shared: Path) -> Trial:
    """`train`, started again with `--resume`: the same weights and curves."""
    command = ("train", make_scenes(shared / "scenes"), "--epochs", 2, "train.checkpoint_steps=1", *TRAINING)

    def trained(out: Path) -> dict[str, object]:
        if not (out / "report.html").exists():
            return {}
        rows = (out / "metrics.csv").read_text().splitlines()
        files = visible(out)
        return {name: files[name] for name in BUNDLES} | {"metrics.csv": [row.split(",")[:12] for row in rows]}

    return _kills(shared, (command,), trained, again=("--resume",), verify=_is_verified)


def export_kills(shared: Path) -> Trial:
    """`export` to each format: the same file, apart from the times that it measured."""
    model = make_model(shared / "model.safetensors")
    return _kills(shared, [("export", model, "--format", name) for name in EXPORTS], exported)


def convert_kills(shared: Path) -> Trial:
    """`convert` to each format: the same dataset."""
    scenes = make_scenes(shared / "scenes", train=40, val=10)
    return _kills(shared, [("convert", scenes, "--to", name) for name in CONVERSIONS], visible)


def _kills(
    shared: Path,
    commands: "list[Command] | tuple[Command, ...]",
    compared: Compared,
    *,
    again: Command = (),
    verify: Callable[[str, Path], bool] | None = None,
    check: Callable[[Path], str | None] = lambda out: None,
) -> Trial:
    """Trials of one to four kills, each of which is a case.

    Args:
        commands: one of them is chosen for each trial; `--out` is added.
        compared: what the result is compared by; after a kill, too, unless there is `verify`.
        again: options that are added from the second start on.
        verify: whether a file that a killed process left is complete.
        check: what else is wrong with a finished folder.
    """

    @functools.cache
    def undisturbed(number: int) -> tuple[dict[str, object], float]:
        outcome = pyramidseg(*commands[number], "--out", shared / f"whole{number}", folder=shared, seconds=300)
        assert outcome.status == 0, outcome.stderr
        return compared(shared / f"whole{number}"), outcome.seconds

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        number = rng.randrange(len(commands))
        wanted, seconds = undisturbed(number)
        out, results = folder / "out", []
        moments = [rng.uniform(0, 1.1) * seconds for _ in range(rng.randint(1, 4))]
        for moment in [*moments, None]:
            command = (*commands[number], "--out", out, *(again if results else ()))
            outcome = pyramidseg(*command, folder=folder, seconds=300, kill_after=moment)
            if outcome.status != -signal.SIGKILL or moment is None:
                break
            results.append(after_kill(out, wanted))
        failure = outcome.failure(allowed=(0,)) or leftovers(out) or check(out)
        if failure is None and (found := compared(out)) != wanted:
            differing = [name for name in {*found, *wanted} if found.get(name) != wanted.get(name)]
            failure = (
                f"{commands[number][:1]}: {differing[:4]} other than in the undisturbed run: {outcome.stdout[-200:]}"
            )
        return [*results, failure] if failure else results

    def after_kill(out: Path, wanted: dict[str, object]) -> str | None:
        if verify is not None:
            partial = [name for name in visible(out) if not verify(name, out / name)]
        else:
            partial = [name for name, content in compared(out).items() if wanted.get(name) != content]
        return f"not complete after a kill: {partial[:3]}" if partial else None

    return trial


def visible(out: Path) -> dict[str, object]:
    """Contents of all files that are not hidden, nor in a hidden folder."""
    return {
        name: content
        for name, content in contents(out).items()
        if not any(part.startswith(".") for part in name.split("/"))
    }


def ledger_lines(out: Path) -> list[dict[str, object]]:
    """The complete lines of the ledger of `predict`."""
    texts = [path.read_text() for path in sorted(out.glob("ledger/*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _is_verified(name: str, path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    from pyramidseg.base.errors import WeightsError
    from pyramidseg.model.tensor_files import read_verified

    if path.suffix != ".safetensors":
        return True
    try:
        with safe_open(path, framework="pt") as file:
            kind = file.metadata()["format"]
        read_verified(path, kind=kind)
    except (SafetensorError, WeightsError):
        return False
    return True


def exported(out: Path) -> dict[str, object]:
    """The exported files of a folder, without the times that were measured."""
    return {name: _without_times(out / name) for name in visible(out) if not name.endswith(".parity.json")}


def _without_times(path: Path) -> object:
    """The content of an exported file without the latencies in its metadata, and the checksum that includes them."""
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load_model(path)
        model.ClearField("metadata_props")
        return model.SerializeToString(deterministic=True)
    if path.suffix == ".pt2":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith(("serialization_id", ".sha256"))]
            return {name: _drop_latency(archive.read(name)) for name in names}
    return _drop_latency(path.read_bytes())


def _drop_latency(content: bytes) -> bytes:
    return re.sub(rb'latency_ms.{1,8}\[[^]]*\]|<sha256 value="[^"]*"', b"", content)
