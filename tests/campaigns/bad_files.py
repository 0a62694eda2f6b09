"""Mutated images, label files of all formats, models and checkpoints."""

import io
import json
import random
import shutil
import signal
from pathlib import Path

import numpy as np
from PIL import Image

from campaigns.harness import Running, Trial, content_of, leftovers, mutated, pyramidseg
from campaigns.made_inputs import TRAINING, make_model, make_scenes
from formats.test_contract import EXAMPLES

IMAGES = (
    ("png", "RGB", {}),
    ("png", "P", {}),
    ("jpg", "RGB", {"quality": 80}),
    ("jpg", "L", {"progressive": True}),
    ("tif", "RGB", {}),
    ("tif", "RGB", {"compression": "tiff_lzw"}),
    ("tif", "L", {"compression": "tiff_adobe_deflate"}),
    ("bmp", "RGB", {}),
    ("webp", "RGB", {"lossless": True}),
)
"""Suffix, mode and options of the pictures that are mutated."""


INTERRUPTED = (*TRAINING, "train.checkpoint_steps=1")
"""Settings of `interrupted`, with which it is resumed."""


def images(shared: Path) -> Trial:
    """`predict` on 20 mutated images and a whole one, which is predicted as alone.

    A PNG has checksums: what is accepted of it must be what was written, so its label map is that of the original.
    """
    model = make_model(shared / "model.safetensors")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)).resize((64, 48))
    files, wanted = [], {}
    (shared / "originals").mkdir()
    for number, (suffix, mode, options) in enumerate(IMAGES):
        data = io.BytesIO()
        picture.convert(mode).save(data, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix), **options)
        files.append((suffix, data.getvalue(), f"{number}.png"))
        (shared / "originals" / f"{number}.{suffix}").write_bytes(data.getvalue())
    outcome = pyramidseg("predict", model, "originals", "--out", shared / "masks", folder=shared)
    assert outcome.status == 0, outcome.stderr
    wanted = {path.name: path.read_bytes() for path in (shared / "masks").glob("*.png")}
    assert len(wanted) == len(IMAGES), outcome.stderr

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        source, out = folder / "in", folder / "out"
        source.mkdir()
        shutil.copy(shared / "originals" / "0.png", source / "whole.png")
        originals = {}
        for number in range(20):
            suffix, content, name = rng.choice(files)
            (source / f"{number}.{suffix}").write_bytes(mutated(content, rng))
            originals[f"{number}.{suffix}"] = name
        outcome = pyramidseg("predict", model, source, "--out", out, folder=folder)
        failure = outcome.failure(allowed=(0, 3)) or leftovers(out)
        if failure:
            return [failure] + [None] * 19
        if (out / "whole.png").read_bytes() != wanted["0.png"]:
            return ["the whole image was predicted otherwise"] + [None] * 19
        return [_image_failure(source / name, out, wanted[original]) for name, original in originals.items()]

    return trial


def _image_failure(image: Path, out: Path, wanted: bytes) -> str | None:
    mask = out / f"{image.stem}.png"
    if not mask.exists():
        listed = image.name in (out / "predictions.json").read_text(encoding="utf-8")
        return None if listed else f"{image.name}: neither a label map nor an entry"
    with Image.open(mask) as made:
        made.load()
    return (
        f"{image.name}: a damaged PNG was predicted otherwise"
        if (image.suffix == ".png" and mask.read_bytes() != wanted)
        else None
    )


def labels(shared: Path) -> Trial:
    """`inspect` on a dataset of each format with a mutated label file; a file cut short is a finding.

    JSON files are also changed in their structure: a value is removed or becomes one of another type.
    """
    for name, write in EXAMPLES.items():
        write(shared / name)
        outcome = pyramidseg("inspect", name, "--out", f"{name}-out", f"data.format={name}", folder=shared)
        assert outcome.status in (0, 3), outcome.stderr

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        name = rng.choice(list(EXAMPLES))
        file = EXAMPLES[name](folder / "data").label_file
        content, cut = file.read_bytes(), False
        if file.suffix in (".json", ".geojson") and rng.random() < 0.6:
            file.write_text(json.dumps(_changed(json.loads(content), rng)), encoding="utf-8")
        elif rng.random() < 0.2:
            file.write_bytes(content[: rng.randrange(len(content) - 2)])
            # A text file that ends early can be a valid one, and of a PNG the pixels may all be there.
            cut = file.suffix not in (".txt", ".csv") and not _has_all_pixels(file, content)
        else:
            file.write_bytes(mutated(content, rng))
        outcome = pyramidseg("inspect", folder / "data", "--out", folder / "out", f"data.format={name}", folder=folder)
        failure = outcome.failure() or leftovers(folder / "out")
        if failure is None and cut and outcome.status == 0:
            failure = f"{file.name} ended early, but nothing was found"
        return [failure and f"{name}: {failure}"]

    return trial


def _has_all_pixels(file: Path, whole: bytes) -> bool:
    """Whether a PNG lost only its last chunk, or that and the checksum before it."""
    return file.suffix == ".png" and file.stat().st_size >= len(whole) - 16


def _changed(value: object, rng: random.Random) -> object:
    """JSON with one value, anywhere, removed or replaced."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.8:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = value.copy()
        if rng.random() < 0.15:
            del copy[key]
        else:
            copy[key] = _changed(value[key], rng)
        return copy
    odd = (None, True, -1, 0, 1e308, 10**30, "", "x" * 5000, "../../etc/passwd", "\x1b[2J", [], {}, [[]], [None], "NaN")
    return rng.choice(odd)


def bundles(shared: Path) -> Trial:
    """`predict` with a mutated bundle: status 2, or the outputs of the whole one."""
    return _models(shared, formats=("bundle",))


def exports(shared: Path) -> Trial:
    """The same with exports to ONNX, OpenVINO and torch.export."""
    return _models(shared, formats=("onnx", "openvino", "torch"))


def _models(shared: Path, *, formats: tuple[str, ...]) -> Trial:
    bundle = make_model(shared / "model.safetensors")
    image = shared / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(image)
    folders, wanted = {}, {}
    for format in formats:
        folders[format] = shared / format
        if format == "bundle":
            folders[format].mkdir()
            shutil.copy(bundle, folders[format])
        else:
            command = ("export", bundle, "--format", format, "--out", folders[format])
            outcome = pyramidseg(*command, folder=shared, seconds=300)
            assert outcome.status == 0, outcome.stderr
        outcome = pyramidseg("predict", _model_in(folders[format]), image, "--out", shared / "whole", folder=shared)
        assert outcome.status == 0, outcome.stderr
        wanted[format] = (shared / "whole" / "image.png").read_bytes()
        shutil.rmtree(shared / "whole")

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        format = rng.choice(formats)
        shutil.copytree(folders[format], folder / "model")
        model = _model_in(folder / "model")
        file = rng.choice([path for path in (model, model.with_suffix(".bin")) if path.exists()])
        file.write_bytes(mutated(file.read_bytes(), rng))
        outcome = pyramidseg("predict", model, image, "--out", folder / "out", folder=folder)
        failure = outcome.failure(allowed=(0, 2)) or leftovers(folder)
        if failure is None and outcome.status == 0 and (folder / "out" / "image.png").read_bytes() != wanted[format]:
            failure = "another label map, without a message"
        return [failure and f"{format}: {failure}"]

    return trial


def _model_in(folder: Path) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".onnx", ".xml", ".pt2"))


def checkpoints(shared: Path) -> Trial:
    """`train --resume` with a mutated checkpoint: status 2, or the model of the run that was not disturbed."""
    data, run = make_scenes(shared / "scenes"), shared / "run"
    resumed = ("--epochs", "2", *INTERRUPTED)
    whole = pyramidseg("train", data, "--out", shared / "whole", *resumed, folder=shared)
    assert whole.status == 0, whole.stderr
    wanted = content_of(shared / "whole" / "last.safetensors")
    interrupted(data, run)
    shutil.copytree(run, shared / "control")
    outcome = pyramidseg("train", data, "--out", "control", "--resume", *resumed, folder=shared)
    assert outcome.status == 0, outcome.stderr
    assert content_of(shared / "control" / "last.safetensors") == wanted

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        shutil.copytree(run, folder / "run")
        file = checkpoint_of(folder / "run")
        assert file is not None
        file.write_bytes(mutated(file.read_bytes(), rng))
        outcome = pyramidseg("train", data, "--out", folder / "run", "--resume", *resumed, folder=folder)
        failure = outcome.failure(allowed=(0, 2)) or leftovers(folder)
        if failure is None and outcome.status == 0 and content_of(folder / "run" / "last.safetensors") != wanted:
            failure = "another model, without a message"
        return [failure]

    return trial


def interrupted(data: Path, run: Path) -> None:
    """A run of two epochs that was killed when it had a checkpoint of its first steps."""
    running = Running("train", data, "--out", run, "--epochs", 2, *INTERRUPTED, folder=data.parent)
    outcome = running.ended(until=lambda: checkpoint_of(run) is not None)
    assert outcome.status == -signal.SIGKILL and checkpoint_of(run), "it ended before it could be killed"


def checkpoint_of(run: Path) -> Path | None:
    """A checkpoint of a run."""
    return next(iter(sorted(run.glob("checkpoint/step-*.safetensors"))), None)
