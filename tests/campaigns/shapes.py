"""Images of extreme shapes: each is predicted, an entry or a defect, in bounded memory, and the others are done."""

import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from campaigns.harness import Outcome, Trial, address_space, leftovers, pyramidseg
from campaigns.made_inputs import TRAINING, make_model

MEMORY_MB = 2500
"""What a command may map on top of the process that forks it: 250 million padded pixels of three bytes, and buffers."""

WHOLE = (48, 64)


def shapes(shared: Path) -> Trial:
    """`predict` on five such images and a whole one; or `inspect` and `train` on a dataset with them."""
    model = make_model(shared / "model.safetensors")

    def predict(rng: random.Random, folder: Path) -> list[str | None]:
        source, out = folder / "in", folder / "out"
        sizes = _write_images(source, rng)
        outcome = _limited("predict", model, source, "--out", out, folder=folder)
        failure = outcome.failure(allowed=(0, 3)) or leftovers(out)
        if failure is None and (found := _entry_sizes(out)) != sizes:
            failure = next(f"{name}: {found.get(name)} instead of {size}" for name, size in sizes.items()
                           if found.get(name) != size)  # fmt: skip
        return [failure] + [None] * (len(sizes) - 1)

    def dataset(rng: random.Random, folder: Path) -> list[str | None]:
        """The images of a dataset, with masks of the size in the header; `inspect` names each that is too large."""
        sizes = {}
        for split in ("train", "val"):
            sizes |= _write_images(folder / "data" / split / "images", rng)
            for name in sizes:
                if (folder / "data" / split / "images" / name).exists():
                    height, width = sizes[name] or (8, 8)
                    mask = folder / "data" / split / "masks" / f"{Path(name).stem}.png"
                    mask.parent.mkdir(exist_ok=True)
                    Image.fromarray(np.resize(np.array([0, 1], np.uint8), (height, width))).save(mask)
        outcome = _limited("inspect", folder / "data", "--out", folder / "inspected", folder=folder)
        failure = outcome.failure() or leftovers(folder)
        bad = [name for name, size in sizes.items() if size is None]
        if failure is None and outcome.status != 2:
            defects = json.dumps(json.loads((folder / "inspected" / "inspection.json").read_bytes())["defects"])
            failure = next((f"{name}: no defect" for name in bad if name not in defects), None)
        failures = [failure] + [None] * (len(sizes) - 1)
        if rng.random() < 0.3:
            command = ("train", folder / "data", "--out", folder / "run", "--epochs", 1, *TRAINING)
            outcome = _limited(*command, folder=folder)
            failures.append(outcome.failure(allowed=(2,) if bad else (0, 2)) or leftovers(folder))
        return failures

    def trial(rng: random.Random, folder: Path) -> list[str | None]:
        kind = rng.choice((predict, predict, dataset))
        return [failure and f"{kind.__name__}: {failure}" for failure in kind(rng, folder)]

    return trial


def _limited(*command: object, folder: Path) -> Outcome:
    return pyramidseg(*command, folder=folder, limits=address_space(MEMORY_MB), seconds=120)


def _write_images(folder: Path, rng: random.Random) -> dict[str, tuple[int, int] | None]:
    """Five images and a whole one; returns their height and width by name, None where the header is a lie."""
    folder.mkdir(parents=True)
    prefix = folder.parent.name[:1]
    sizes: dict[str, tuple[int, int] | None] = {f"{prefix}whole.png": WHOLE}
    _write(folder / f"{prefix}whole.png", *WHOLE)
    for number in range(5):
        suffix = rng.choice(("png", "tif"))
        path = folder / f"{prefix}{number}.{suffix}"
        height, width = _shape(rng)
        if rng.random() < 0.4:
            sizes[path.name] = None
            _write(path, 4, 5)
            _claim(path, height * rng.choice((1000, 10**6)), width * rng.choice((1, 1000)))
        else:
            sizes[path.name] = (height, width)
            bands = rng.choice((3, 3, 1)) if suffix == "png" else rng.choice((3, 3, 1, 4, 60))
            if bands in (4, 60):
                sizes[path.name] = None  # a network for RGB; 4 bands can be RGB with an alpha channel
            _write(path, height, width, bands=bands)
    return {name: sizes[name] for name in sorted(sizes)}


def _shape(rng: random.Random) -> tuple[int, int]:
    long = int(10 ** rng.uniform(0, 4.5))
    return rng.choice(((1, long), (long, 1), (1, 1), (rng.randint(1, 3), long), (rng.randint(1, 40), long // 100 + 1)))


def _write(path: Path, height: int, width: int, *, bands: int = 3) -> None:
    pixels = np.random.default_rng(height + width).integers(0, 256, (height, width, bands), np.uint8)
    if path.suffix == ".png":
        Image.fromarray(pixels if bands == 3 else pixels[..., 0]).save(path)
    else:
        options = {"photometric": "rgb"} if bands == 3 else {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(path, pixels[..., 0] if bands == 1 else pixels, **({} if bands == 1 else options))


def _claim(path: Path, height: int, width: int) -> None:
    """Change the size in the header of a PNG or TIFF."""
    height, width = min(height, 2**31 - 1), min(width, 2**31 - 1)
    if path.suffix == ".png":
        content = bytearray(path.read_bytes())
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)
        return
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, value in (("ImageLength", height), ("ImageWidth", width), ("RowsPerStrip", height)):
            tag = file.pages[0].tags[name]
            file.filehandle.seek(tag.offset + 2)
            file.filehandle.write(struct.pack("<HII", 4, 1, value))


def _entry_sizes(out: Path) -> "dict[str, tuple[int, int] | None]":
    """Sizes of the label maps by image; None for an entry with an error."""
    sizes: dict[str, tuple[int, int] | None] = {}
    for entry in json.loads((out / "predictions.json").read_bytes())["images"]:
        name = Path(entry["image"]).name
        sizes[name] = None
        if "error" not in entry:
            with Image.open(out / entry["outputs"]["mask"]) as mask:
                sizes[name] = (mask.height, mask.width)
    return sizes
