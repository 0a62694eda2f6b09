"""Attacks as a table: what is tried, and the statuses that it may get. None may run code or print an escape."""

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from campaigns.harness import Trial, pyramidseg
from formats.test_contract import EXAMPLES

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


class _Code:
    """A pickle that creates the file `owned` where it is opened."""

    def __reduce__(self):
        return (open, ("owned", "w"))


Payload = tuple[Callable[[Path], tuple[object, ...]], tuple[int, ...]]


def _file(name: str, content: bytes | str, *command: object) -> Callable[[Path], tuple[object, ...]]:
    """A file, and the command that reads it; `{}` in the command is its path."""

    def write(folder: Path) -> tuple[object, ...]:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tuple(path if word == "{}" else word for word in command)

    return write


def _json(format: str, change: Callable[[dict], None]) -> Callable[[Path], tuple[object, ...]]:
    """A dataset whose label file is changed, and its inspection."""

    def write(folder: Path) -> tuple[object, ...]:
        file = EXAMPLES[format](folder / "data").label_file
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        return ("inspect", folder / "data", "--out", folder / "out", f"data.format={format}")

    return write


PREDICT = ("predict", "{}", "whole/train/images", "--out", "out")
IMPORT = ("import", "{}", "--from", "smp", "--encoder", "resnet18", "--out", "out.safetensors")
INSPECT = ("inspect", "{}", "--out", "out")
PATHS = (
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "../train/..",
    "C:\\",
    "",
    "a\0b",
    "a/../../b.jpg",
    ESCAPE,
    "x" * 300,
)
PAYLOADS: dict[str, Payload] = {
    **{f"a pickle as {end}": (_file(f"m{end}", pickle.dumps(_Code()), *PREDICT), (2,))
       for end in (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx", ".pt2", ".xml")},
    "a pickle to import": (
        _file("m.pth", pickle.dumps(_Code()), *IMPORT),
        (2,),
    ),
    "a YAML alias bomb": (_file("d.yaml", BOMB, *INSPECT), (2,)),
    "a YAML alias bomb as --config": (_file("c.yaml", BOMB, "train", "whole", "--out", "out", "--config", "{}"), (2,)),
    "a YAML constructor": (_file("d.yaml", "a: !!python/object/apply:os.mkdir [owned]", *INSPECT), (2,)),
    "deep YAML": (_file("d.yaml", "[" * 20_000, *INSPECT), (2,)),
    "6,000 digits": (_file("d.yaml", "ignore: " + "9" * 6000, *INSPECT), (2,)),
    "an escape in YAML": (_file("d.yaml", f'train: "{ESCAPE!r}"', *INSPECT), (2,)),
    **{f"COCO file_name {path[:30]!r}": (_json("coco", lambda c, p=path: c["images"][0].update(file_name=p)), (2, 3))
       for path in PATHS},
    **{f"LabelMe imagePath {path[:30]!r}": (_json("labelme", lambda c, p=path: c.update(imagePath=p)), (0, 2, 3))
       for path in PATHS},
    **{f"COCO class {name[:30]!r}": (_json("coco", lambda c, n=name: c["categories"][0].update(name=n)), (0, 2, 3))
       for name in (ESCAPE, "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "x" * 100_000, "\u202e")},
}  # fmt: skip


def payloads(_: Path) -> Trial:
    """The payloads of the table, in random order."""

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        names = list(PAYLOADS)
        rng.shuffle(names)
        return [attack(name, folder) for name in names]

    def attack(name: str, folder: Path) -> str | None:
        write, allowed = PAYLOADS[name]
        work = folder / "work"
        work.mkdir()
        EXAMPLES["paired"](work / "whole")
        command = write(work)
        outcome = pyramidseg(*command, folder=work)
        failure = outcome.failure(allowed=allowed)
        read = next(word for word in command if isinstance(word, Path))
        if outcome.status == 2 and not any(
            word in outcome.stderr for word in (read.name, "owned")
        ):  # another reason than the payload
            failure = failure or f"{read.name} is not named: {outcome.stderr.strip()[-300:]}"
        if (work / "owned").exists():
            failure = "code from the file was run"
        if any("<script>alert" in page.read_text(encoding="utf-8") for page in work.rglob("*.html")):
            failure = "a script is in the report"
        shutil.rmtree(work)
        return failure and f"{name}: {failure}"

    return trial
