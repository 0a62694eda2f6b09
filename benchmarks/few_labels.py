"""Few labels on CamVid: what unlabelled images add to 1/8 and 1/4 of the labels, and scribbles against whole masks.

    python -m benchmarks.few_labels --camvid DIR --out DIR [--pools sequence] [--shares 8,4] [--recipes ...]
        [--seeds 0] [--steps 200] [--optimizer auto] [--height 180] [--crop 128]

The pool `sequence` is CamVid's training images without sequence 0016E5, from which all validation images come: nothing
that a model learns from is a neighbouring frame of a scored one. `target` labels the same images, and has the frames of
0016E5 in the training split as unlabelled ones: images of the place where the model will be used. `all` is the whole
training split. Every N-th image in the order of time keeps its label, from a start that the seed chooses; the others
are the unlabelled images. Runs end after equal steps, and are scored with the weights of the last one. OUT/results.json
has the labelled files and the scores of each run; a study that was cut off goes on where it was. Tables and
conclusions: docs/few-labels.md.
"""

import argparse
import logging
import math
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from benchmarks.kept_results import run_missing
from numpy.typing import NDArray

import pyramidseg as ps
from pyramidseg.base.config import DataConfig
from pyramidseg.base.seeds import position_seed
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.model.bundle import read_bundle

VOID = 11
"""CamVid's value for pixels without a class."""

EPOCHS = 2
"""Validations of a run: each epoch repeats the labelled images as often as needed for its share of the steps."""

SHARED: dict[str, Any] = {
    "pyramid_channels": 128,
    "segmentation_channels": 64,
    "precision": "fp32",
}
"""Half of the default's width: on two processor cores, a step takes a third of the time."""

RECIPES: dict[str, dict[str, Any]] = {
    "labels": {},
    "unlabeled": {},
    "unlabeled-0.7": {"confidence": 0.7},
    "unlabeled-0.97": {"confidence": 0.97},
    "unlabeled-weight-0.5": {"unlabeled_weight": 0.5},
    "unlabeled-weight-2": {"unlabeled_weight": 2.0},
    "unlabeled-ema-0.99": {"ema": 0.99},
    "scribbles-1": {"scribbles": 0.01},
    "scribbles-5": {"scribbles": 0.05},
}
"""Settings besides the shared ones. `labels` and `scribbles-N`, which label N % of each image's pixels, use no other
images; with --shares 1, where none are left, only these can be run."""


def main() -> None:
    """Run what is not yet in OUT/results.json, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pools", default="sequence")
    parser.add_argument("--shares", default="8,4")
    parser.add_argument("--recipes", default="labels,unlabeled")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--optimizer", default="auto")
    parser.add_argument("--height", type=int, default=180)
    parser.add_argument("--crop", type=int, default=128)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    lists = (arguments.seeds, arguments.pools, arguments.shares, arguments.recipes)
    runs = (
        {"pool": pool, "share": int(share), "recipe": recipe, "steps": arguments.steps, "height": arguments.height}
        | {"crop": arguments.crop, "seed": int(seed), "optimizer": arguments.optimizer}
        for seed, pool, share, recipe in product(*(text.split(",") for text in lists))
        if not (int(share) == 1 and recipe.startswith("unlabeled"))
    )
    results = run_missing(
        arguments.out, runs, lambda run: train(resized(arguments.camvid, arguments), run, arguments.out)
    )
    print(table(results))


def train(camvid: Path, run: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train once; mIoU of the averaged weights, the labelled files, and the minutes that it took."""
    settings: dict[str, Any] = dict(RECIPES[run["recipe"]])
    if part := settings.pop("scribbles", 0):
        camvid = scribbled(camvid, part, run["seed"])
    opened = open_dataset(camvid, DataConfig())
    labelled, others = divided(opened, **{key: run[key] for key in ("pool", "share", "seed")})
    folder = out / "-".join(str(value) for value in run.values())
    if run["recipe"].startswith("unlabeled"):
        settings["unlabeled"] = linked(others, out / f"unlabeled-{run['pool']}-{run['share']}-{run['seed']}")
    began = time.monotonic()
    result = ps.train(
        repeated(opened, labelled, steps=run["steps"]),
        out=folder,
        resume=folder.exists(),
        encoder="tf_efficientnet_lite0",
        epochs=EPOCHS,
        warmup_epochs=0.4,
        **SHARED,
        crop=run["crop"],
        seed=run["seed"],
        optimizer=run["optimizer"],
        **settings,
    )
    scores = read_bundle(result.last).facts["metrics"]
    return {
        "miou": scores["miou"],
        "iou": {entry["name"]: entry["iou"] for entry in scores["classes"]},
        "by_epoch": [row["val_miou"] for row in result.history],
        "accepted": [row.get("unlabeled_accepted") for row in result.history],
        "labelled": [record.id for record in labelled],
        "unlabelled": len(others),
        "minutes": round((time.monotonic() - began) / 60, 1),
    }


def resized(camvid: Path, arguments: argparse.Namespace) -> Path:
    """CamVid with images of another height, in OUT; made once."""
    folder: Path = arguments.out / f"camvid-{arguments.height}"
    for file in [] if folder.exists() else sorted(camvid.glob("*/*.*g")):
        target = folder / file.relative_to(camvid).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        size = round(pixels.shape[1] * arguments.height / pixels.shape[0]), arguments.height
        how = cv2.INTER_NEAREST if file.parent.name.endswith("annot") else cv2.INTER_AREA
        cv2.imwrite(str(target), cv2.resize(pixels, size, interpolation=how))
    return folder


def scribbled(camvid: Path, part: float, seed: int) -> Path:
    """The same dataset, whose training masks are scribbles with void elsewhere; made once."""
    folder = camvid.with_name(f"{camvid.name}-scribbles-{part}-{seed}")
    for mask in [] if folder.exists() else sorted((camvid / "trainannot").iterdir()):
        labels = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        rng = np.random.default_rng(position_seed("scribbles", seed, mask.name))
        (folder / "trainannot").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "trainannot" / mask.name), scribbles(labels, part, rng))
    for name in ("train", "val", "valannot"):
        if not (folder / name).exists():
            (folder / name).symlink_to((camvid / name).resolve())
    return folder


def scribbles(labels: NDArray[np.uint8], part: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Strokes 2 pixels wide inside the regions of a mask, as people draw them; `VOID` elsewhere.

    A stroke starts at a pixel of a class of the image, all classes equally often, and turns a little at each step;
    pixels of other classes under it are left out. Strokes are added until they cover `part` of the pixels.
    """
    drawn = np.full_like(labels, VOID)
    classes = [value for value in np.unique(labels).tolist() if value != VOID]
    wanted = min(part * labels.size, (labels != VOID).sum())
    while (drawn != VOID).sum() < wanted:
        chosen = int(rng.choice(classes))
        row, column = np.argwhere(labels == chosen)[int(rng.integers((labels == chosen).sum()))]
        heading, points = rng.uniform(0, 2 * np.pi), [(int(column), int(row))]
        for _ in range(int(rng.integers(2, 8))):
            heading += rng.normal(0, 0.5)
            points.append((int(points[-1][0] + 5 * np.cos(heading)), int(points[-1][1] + 5 * np.sin(heading))))
        stroke = np.zeros_like(labels)
        cv2.polylines(stroke, [np.array(points, np.int32)], isClosed=False, color=1, thickness=2)
        drawn[(stroke == 1) & (labels == chosen)] = chosen
    return drawn


def divided(opened: Dataset, *, pool: str, share: int, seed: int) -> tuple[list[Record], list[Record]]:
    """Labelled and unlabelled training images."""
    everything = sorted(opened.split("train"), key=lambda record: record.id)
    records = [record for record in everything if pool == "all" or "0016E5" not in record.id]
    start = int(np.random.default_rng(position_seed("few labels", seed)).integers(share))
    labelled = records[start::share]
    pooled = everything if pool == "target" else records
    return labelled, [record for record in pooled if record not in labelled]


def repeated(opened: Dataset, labelled: list[Record], *, steps: int) -> Dataset:
    """The labelled images, each under several ids, so that `EPOCHS` epochs of batches of 4 have `steps` steps."""
    wanted = math.ceil(steps / EPOCHS) * 4
    copies = [labelled[index % len(labelled)] for index in range(wanted)]
    train = [
        Record(f"{record.id}#{index // len(labelled)}", record.image, record.mask)
        for index, record in enumerate(copies)
    ]
    splits = {"train": tuple(train), "val": opened.split("val")}
    return Dataset(opened.source, opened.layout, opened.classes, opened.masks, splits)


def linked(records: list[Record], folder: Path) -> str:
    """A folder of links to images."""
    folder.mkdir(exist_ok=True)
    for record in records:
        if not (link := folder / record.image.name).is_symlink():
            link.symlink_to(record.image.resolve())
    return str(folder)


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a row for each pool, share and recipe."""
    heads = ("pool", "labelled", "recipe", "optimizer", "steps", "mIoU by seed", "mean", "minutes")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    compared = ("pool", "share", "recipe", "optimizer", "steps", "height", "crop")
    kinds = [{key: result[key] for key in compared} for result in results]
    for kind in [kind for index, kind in enumerate(kinds) if kind not in kinds[:index]]:
        runs = [result for result in results if kind.items() <= result.items()]
        mious = ", ".join(f"{run['miou']:.3f}" for run in runs)
        mean, minutes = (statistics.mean(run[key] for run in runs) for key in ("miou", "minutes"))
        lines.append(
            f"| {kind['pool']} | 1/{kind['share']} ({len(runs[0]['labelled'])}) | {kind['recipe']} "
            f"| {kind['optimizer']} | {kind['steps']} | {mious} | {mean:.3f} | {minutes:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
