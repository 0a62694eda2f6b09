"""NaN, infinite and huge values in images, weights and checkpoints: a message or a result, never class 0 everywhere."""

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from campaigns.bad_files import INTERRUPTED, checkpoint_of, interrupted
from campaigns.harness import Trial, leftovers, pyramidseg
from campaigns.made_inputs import TRAINING, make_model, make_scenes

VALUES = (math.nan, math.inf, -math.inf, 1e30, -1e30)

SIDE = 64


def non_finite(shared: Path) -> Trial:
    """`predict` and `train` with values that are not finite, or huge, at random places of one of their inputs."""
    model, data = make_model(shared / "model.safetensors"), make_scenes(shared / "scenes")
    clean = shared / "clean"
    clean.mkdir()
    _write_image(clean / "clean.tif", _picture(0))
    outcome = pyramidseg("predict", model, clean, "--out", shared / "whole", folder=shared)
    assert outcome.status == 0, outcome.stderr
    wanted = (shared / "whole" / "clean.png").read_bytes()
    interrupted(data, shared / "run")

    def images(rng: random.Random, folder: Path) -> str | None:
        """One image with such values next to one without."""
        source, out = folder / "in", folder / "out"
        shutil.copytree(clean, source)
        _write_image(source / "spoilt.tif", _spoilt(_picture(1), rng))
        outcome = pyramidseg("predict", model, source, "--out", out, folder=folder)
        failure = outcome.failure(allowed=(0, 3)) or leftovers(out)
        if failure is None and (out / "clean.png").read_bytes() != wanted:
            failure = "the image without such values was predicted otherwise"
        return failure or _without_map_of_zeros(out)

    def training_images(rng: random.Random, folder: Path) -> str | None:
        """Training on float images, one of which has such values."""
        for number in range(5):
            split = folder / "data" / ("val" if number == 4 else "train")
            for kind in ("images", "masks"):
                (split / kind).mkdir(parents=True, exist_ok=True)
            picture = _picture(number) if number != 2 else _spoilt(_picture(number), rng)
            _write_image(split / "images" / f"{number}.tif", picture)
            mask = np.repeat(np.arange(SIDE, dtype=np.uint8)[:, None] // 22, SIDE, axis=1)
            Image.fromarray(mask).save(split / "masks" / f"{number}.png")
        out = folder / "run"
        outcome = pyramidseg("train", folder / "data", "--out", out, "--epochs", 1, *TRAINING, folder=folder)
        return outcome.failure() or leftovers(folder) or _with_finite_model(out, outcome.status)

    def weights(rng: random.Random, folder: Path) -> str | None:
        """Prediction with a bundle with such a value, and the right checksum."""
        from pyramidseg.model.bundle import KIND

        shutil.copy(model, folder / "model.safetensors")
        value = _spoil_tensors(folder / "model.safetensors", KIND, rng)
        out = folder / "out"
        outcome = pyramidseg("predict", folder / "model.safetensors", clean, "--out", out, folder=folder)
        failure = outcome.failure(allowed=(0, 2, 3) if math.isfinite(value) else (2,)) or leftovers(folder)
        if failure is None and outcome.status == 0 and not _finds_class_0(folder / "model.safetensors"):
            failure = _without_map_of_zeros(out)
        return failure

    def checkpoint(rng: random.Random, folder: Path) -> str | None:
        """Resumption of a checkpoint with such a value, and the right checksum."""
        from pyramidseg.training.checkpoint import KIND

        shutil.copytree(shared / "run", folder / "run")
        file = checkpoint_of(folder / "run")
        assert file is not None
        value = _spoil_tensors(file, KIND, rng)
        again = ("--resume", "--epochs", 2, *INTERRUPTED)
        outcome = pyramidseg("train", data, "--out", folder / "run", *again, folder=folder)
        failure = outcome.failure(allowed=(0, 2) if math.isfinite(value) else (2,)) or leftovers(folder)
        return failure or _with_finite_model(folder / "run", outcome.status)

    def encoder(rng: random.Random, folder: Path) -> str | None:
        """Training from encoder weights with such a value."""
        import timm
        from safetensors.torch import save_file

        tensors = {name: tensor.clone() for name, tensor in timm.create_model("test_resnet").state_dict().items()}
        value = _spoil(tensors, rng)
        save_file(tensors, folder / "encoder.safetensors")
        more = ("--encoder-weights", folder / "encoder.safetensors", "--epochs", 1)
        outcome = pyramidseg("train", data, "--out", folder / "run", *TRAINING, *more, folder=folder)
        failure = outcome.failure(allowed=(0, 2) if math.isfinite(value) else (2,)) or leftovers(folder)
        return failure or _with_finite_model(folder / "run", outcome.status)

    kinds: tuple[Callable[[random.Random, Path], str | None], ...] = (images, weights, checkpoint, training_images)

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        kind = rng.choice((*kinds, images, images, weights, weights, encoder))
        failure = kind(rng, folder)
        return [failure and f"{kind.__name__}: {failure}"]

    return trial


def _picture(seed: int) -> NDArray[np.float32]:
    shades = np.random.default_rng(seed).random((8, 8, 3), np.float32)
    return np.kron(shades, np.ones((SIDE // 8, SIDE // 8, 1), np.float32))


def _write_image(path: Path, pixels: NDArray[np.float32]) -> None:
    tifffile.imwrite(path, pixels, photometric="rgb")


def _spoilt(pixels: NDArray[np.float32], rng: random.Random) -> NDArray[np.float32]:
    """One of the values in a few pixels, in a rectangle, or everywhere."""
    spoilt, value = pixels.copy(), rng.choice(VALUES)
    match rng.randrange(4):
        case 0:
            spoilt[:] = value
        case 1:
            top, left = rng.randrange(SIDE), rng.randrange(SIDE)
            spoilt[top:, left:, rng.randrange(3) :] = value
        case _:
            for _ in range(rng.randint(1, 5)):
                spoilt[rng.randrange(SIDE), rng.randrange(SIDE), rng.randrange(3)] = value
    return spoilt


def _spoil_tensors(path: Path, kind: str, rng: random.Random) -> float:
    """Put a value into a file of ours, with the right checksum; returns the value."""
    from pyramidseg.model.tensor_files import read_verified, write_tensors

    tensors, metadata = read_verified(path, kind=kind)
    value = _spoil(tensors, rng)
    write_tensors(path, tensors, metadata)
    return value


def _spoil(tensors: "dict[str, object]", rng: random.Random) -> float:
    value = rng.choice(VALUES)
    used = [name for name in sorted(tensors) if not name.startswith("fc.")]  # a classifier's last layer is ignored
    name = rng.choice([name for name in used if tensors[name].is_floating_point()])
    flat = tensors[name].reshape(-1)
    flat[rng.randrange(len(flat))] = value
    return value


def _without_map_of_zeros(out: Path) -> str | None:
    """A failure if an image whose entry has no error has a label map that is 0 everywhere."""
    for entry in json.loads((out / "predictions.json").read_bytes())["images"]:
        if "error" not in entry:
            with Image.open(out / entry["outputs"]["mask"]) as mask:
                if not np.asarray(mask).any():
                    return f"{Path(entry['image']).name}: class 0 everywhere, without a message"
    return None


def _finds_class_0(model: Path) -> bool:
    """Whether the network finds class 0 everywhere in the clean image, with finite logits: the huge value says so."""
    import torch

    from pyramidseg.model.segmenter import Segmenter

    with torch.inference_mode():
        pixels = torch.from_numpy(_picture(0)).permute(2, 0, 1)[None]
        logits = Segmenter.load(model).eval()(pixels)
    return bool(logits.isfinite().all() and (logits.argmax(1) == 0).all())


def _with_finite_model(run: Path, status: int) -> str | None:
    """A failure if a training that is done wrote weights that are not finite."""
    from safetensors.torch import load_file

    if status != 0:
        return None
    tensors = load_file(run / "last.safetensors")
    spoilt = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    return f"{spoilt[0]} in last.safetensors is not finite" if spoilt else None
