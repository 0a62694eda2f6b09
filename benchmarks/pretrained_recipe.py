"""Recipes for training from ImageNet weights, on three kinds of images: which optimizer, rate and settings?

    python -m benchmarks.pretrained_recipe --camvid DIR --crackforest DIR --out DIR [--sets camvid,...] [--recipes ...]
        [--encoders tf_efficientnet_lite0] [--epochs 4] [--seeds 0]

Each run is `pyramidseg train` with the settings of `RECIPES`, scored with the weights of the last epoch, so that
nothing is chosen on the validation split. Results are kept in OUT/results.json one by one: a study that was cut off
goes on where it was. `sequence` is CamVid without the training images of sequence 0016E5, from which all validation
images come. Tables and conclusions: docs/recipe.md.
"""

import argparse
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from benchmarks.kept_results import run_missing
from torch import nn

import pyramidseg as ps
from pyramidseg.model.bundle import read_bundle
from pyramidseg.training import optim

DEFAULT = {"optim.optimizer": "adamw", "optim.lr": 1e-3, "optim.encoder_lr_factor": 1.0}
MUON = {"optim.optimizer": "muon", "optim.lr": 3e-3, "optim.encoder_lr_factor": 1.0}
FAST = MUON | {"optim.lr": 6e-3}  # the default
WHOLE_IMAGES = {"data.crop": "whole", "train.batch_size": "same pixels"}  # as `train --auto` chooses them on a CPU
DISKS = {"disks": (18, 48, 255), "deep-disks": (24, 128, 65535)}  # images, side, largest value
SIDES = {"camvid": (360, 480), "sequence": (360, 480), "crackforest": (320, 480), "cells": (256, 320)}
RECIPES: dict[str, dict[str, Any]] = {
    "auto": {"auto": True},  # what is left to choose by `train --auto`: all but encoder, epochs and seed
    "adamw": DEFAULT,
    "adamw-3e-4": DEFAULT | {"optim.lr": 3e-4},
    "adamw-3e-3": DEFAULT | {"optim.lr": 3e-3},
    "adamw-encoder-0.1": DEFAULT | {"optim.encoder_lr_factor": 0.1},
    "adamw-encoder-0.3": DEFAULT | {"optim.encoder_lr_factor": 0.3},
    "adamw-freeze-norm": DEFAULT | {"optim.freeze_norm": True},
    "adamw-layer-decay": DEFAULT | {"optim.layer_decay": 0.8},
    "sgd": {"optim.optimizer": "sgd", "optim.lr": 0.02, "optim.encoder_lr_factor": 1.0},
    "muon": MUON,
    "muon-1e-3": MUON | {"optim.lr": 1e-3},
    "muon-6e-3": MUON | {"optim.lr": 6e-3},
    "muon-encoder-0.1": MUON | {"optim.encoder_lr_factor": 0.1},
    "muon-encoder-0.3": MUON | {"optim.encoder_lr_factor": 0.3},
    "muon-encoder-0.5": MUON | {"optim.encoder_lr_factor": 0.5},
    "muon-freeze-norm": MUON | {"optim.freeze_norm": True},
    "muon-layer-decay": MUON | {"optim.layer_decay": 0.8},
    "muon-decay-0.05": MUON | {"optim.weight_decay": 0.05},
    "muon-batch-2": MUON | {"train.batch_size": 2},
    "muon-batch-8": MUON | {"train.batch_size": 8},
    "muon-crop-256": MUON | {"data.crop": [256, 256]},
    "muon-crop-full": MUON | {"data.crop": [352, 480]},
    "muon-scale-0.5-2": MUON | {"data.scale": [0.5, 2.0]},
    "muon-light": MUON | {"data.augment": "light"},
    "muon-strong": MUON | {"data.augment": "strong"},
    "muon-cosine": MUON | {"optim.schedule": "cosine"},
    "muon-warmup-0.25": MUON | {"optim.warmup_epochs": 0.25},
    "muon-ema-0.99": MUON | {"optim.ema": 0.99},
    "muon-no-weights": MUON | {"loss.class_weights": "none"},
    "muon-dropout-0": MUON | {"model.dropout": 0.0},
    "muon-dropout-0-batch-2": MUON | {"model.dropout": 0.0, "train.batch_size": 2},
    "muon-batch-2-light": MUON | {"model.dropout": 0.0, "train.batch_size": 2, "data.augment": "light"},
    "muon-batch-2-rare-crops": MUON | {"model.dropout": 0.0, "train.batch_size": 2, "data.rare_class_crops": 0.5},
    "muon-whole-images": MUON | {"model.dropout": 0.0, "train.batch_size": 2, "data.crop": [352, 480]},
    # Muon for the decoder, AdamW with its own rate for the encoder
    "fast-decoder": FAST | {"optim.encoder_lr_factor": 1 / 6, "encoder_adamw": True},
    "fast-decoder-encoder-3e-4": FAST | {"optim.encoder_lr_factor": 1 / 20, "encoder_adamw": True},
    "whole-3e-3": MUON | {"model.dropout": 0.0, **WHOLE_IMAGES},
    "whole-3e-3-dropout": MUON | WHOLE_IMAGES,
    "whole-3e-3-scale-0.5-2": MUON | {"model.dropout": 0.0, "data.scale": [0.5, 2.0], **WHOLE_IMAGES},
    "whole-6e-3": FAST | {"model.dropout": 0.0, **WHOLE_IMAGES},
    "whole-6e-3-dropout": FAST | WHOLE_IMAGES,
    "fast-12e-3": FAST | {"optim.lr": 12e-3},
    "fast-batch-2": FAST | {"train.batch_size": 2},
    "fast-dropout-0": FAST | {"model.dropout": 0.0},
    "fast-dice-2": FAST | {"loss.dice": 2.0},
    "fast-layer-decay": FAST | {"optim.layer_decay": 0.8},
    "fast-crop-full": FAST | {"data.crop": [352, 480]},
    "fast-scale-1-2": FAST | {"data.scale": [1.0, 2.0]},
    "fast-ema-0.99": FAST | {"optim.ema": 0.99},
    "fast-rare-crops": FAST | {"data.rare_class_crops": 0.5},
    "fast-aerial": FAST | {"data.augment": "aerial"},  # as `train --auto` chooses it for images without a top
}


def main() -> None:
    """Run what is not yet in OUT/results.json, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--crackforest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="camvid,crackforest,cells")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--encoders", default="tf_efficientnet_lite0")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", default="0")
    arguments = parser.parse_args()
    encoders, recipes = arguments.encoders.split(","), arguments.recipes.split(",")

    def once(run: dict[str, Any]) -> dict[str, Any]:
        dataset, settings = prepare(run["set"], arguments)
        settings |= RECIPES[run["recipe"]]
        if settings.get("data.crop") == "whole":
            crop = [-(-side // 32) * 32 for side in SIDES[run["set"]]]
            settings |= {"data.crop": crop, "train.batch_size": 4 * 320**2 // (crop[0] * crop[1])}
        return train(dataset, settings, run, arguments.out)

    run_recipes(arguments, encoders, recipes, once)


def run_recipes(
    arguments: argparse.Namespace,
    encoders: Sequence[str],
    recipes: Sequence[str],
    once: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    """Call `once` for each set, recipe, encoder and seed that OUT/results.json lacks, and print the tables."""
    seeds = map(int, arguments.seeds.split(","))
    runs = (
        {"set": name, "recipe": recipe, "encoder": encoder, "epochs": arguments.epochs, "seed": seed}
        for seed, encoder, name, recipe in product(seeds, encoders, arguments.sets.split(","), recipes)
    )
    print(table(run_missing(arguments.out, runs, once)))


def train(dataset: Path, settings: dict[str, Any], run: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train once; validation mIoU of the averaged weights after each epoch, and the minutes of an epoch."""
    folder = out / "-".join(str(value) for value in run.values())
    general = {"model": {"encoder": run["encoder"]}, "train": {"epochs": run["epochs"], "seed": run["seed"]}}
    began = time.monotonic()
    auto, encoder_adamw = settings.pop("auto", False), settings.pop("encoder_adamw", False)
    config = ps.make_config(nested(settings, general))
    with adamw_for_encoder() if encoder_adamw else nullcontext():
        result = ps.train(dataset, out=folder, config=config, resume=True, auto=auto)
    minutes = (time.monotonic() - began) / 60
    scores = read_bundle(result.last).facts["metrics"]
    rows = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("val_miou")
    return {
        "miou": scores["miou"],
        "iou": {entry["name"]: entry["iou"] for entry in scores["classes"]},
        "by_epoch": [round(float(row[column]), 4) for row in rows[1:]],
        "minutes": round(minutes / run["epochs"], 2),
    }


def nested(settings: dict[str, Any], general: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Settings by section."""
    sections = {name: dict(section) for name, section in general.items()}
    for key, value in settings.items():
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = value
    return sections


def prepare(name: str, arguments: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Folder of a dataset (made where it is not there yet), and the settings that it needs."""
    if name == "camvid":
        return arguments.camvid, {}
    folder = arguments.out / name
    if name == "crackforest":
        if not folder.exists():
            clean_cracks(arguments.crackforest, folder)
        return folder, {"data.binary": True, "data.val_share": 0.25}
    if name == "cells":
        if not folder.exists():
            draw_cells(folder, images=80)
        return folder, {"data.val_share": 0.25}
    if name == "sequence":
        if not folder.exists():
            hold_out_sequence(arguments.camvid, folder)
        return folder, {}
    if name in DISKS:
        if not folder.exists():
            draw_disks(folder, *DISKS[name])
        return folder, {"data.val_share": 0.25}
    raise SystemExit(f"--sets {name}: must be one of camvid, crackforest, cells, sequence, {', '.join(DISKS)}")


def clean_cracks(source: Path, folder: Path) -> None:
    """CrackForest with its stray mask values 3 and 4 as background."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for mask in sorted(source.rglob("*_label.PNG")):
        image = next(source.rglob(f"{mask.name.removesuffix('_label.PNG')}.jpg"))
        values = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        shutil.copy(image, folder / "images" / image.name)
        cv2.imwrite(str(folder / "masks" / f"{image.stem}.png"), np.where(values == 255, 255, 0).astype(np.uint8))


def draw_cells(folder: Path, *, images: int) -> None:
    """Microscopy-like grey images, 256x320: small bright, large dim, and elongated textured cells on uneven light."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for index in range(images):
        rng = np.random.default_rng(index)
        shape = (256, 320)
        light = cv2.resize(rng.uniform(60, 140, (3, 4)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
        image, mask = light.copy(), np.zeros(shape, np.uint8)
        for _ in range(rng.integers(25, 45)):
            kind = int(rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1]))
            axes = {1: (7, 6), 2: (16, 13), 3: (24, 6)}[kind]
            axes = (int(axes[0] * rng.uniform(0.7, 1.3)), int(axes[1] * rng.uniform(0.7, 1.3)))
            cell = np.zeros(shape, np.uint8)
            center = int(rng.integers(0, shape[1])), int(rng.integers(0, shape[0]))
            cv2.ellipse(cell, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            texture = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 1.0 if kind == 3 else 3.0)
            gain = {1: 35, 2: 18, 3: 22}[kind] + texture * (25 if kind == 3 else 40)
            image = np.where(cell, light + gain, image)
            mask[cell == 1] = kind
        image = cv2.GaussianBlur(image, (0, 0), 1.2) + rng.normal(0, 9, shape)
        cv2.imwrite(str(folder / "images" / f"{index:03}.png"), np.clip(image, 0, 255).astype(np.uint8))
        cv2.imwrite(str(folder / "masks" / f"{index:03}.png"), mask)


def draw_disks(folder: Path, images: int, side: int, most: int) -> None:
    """Square images of one band with small bright and large dim disks on uneven ground, with values up to `most`."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    ys, xs = np.mgrid[:side, :side]
    for index in range(images):
        rng = np.random.default_rng(index)
        ground = cv2.resize(rng.uniform(0.2, 0.5, (3, 3)), (side, side), interpolation=cv2.INTER_CUBIC)
        image, mask = ground.copy(), np.zeros((side, side), np.uint8)
        for _ in range(rng.integers(5, 9)):
            kind = int(rng.integers(1, 3))
            radius = rng.uniform(2, 4) if kind == 1 else rng.uniform(5, 8)
            y, x = rng.uniform(0, side, 2)
            disk = (ys - y) ** 2 + (xs - x) ** 2 <= radius**2
            image[disk], mask[disk] = ground[disk] + (0.25 if kind == 1 else 0.15), kind
        image = np.clip(cv2.GaussianBlur(image, (0, 0), 0.8) + rng.normal(0, 0.06, image.shape), 0, 1)
        cv2.imwrite(
            str(folder / "images" / f"{index:03}.png"), (image * most).astype(np.uint8 if most < 256 else np.uint16)
        )
        cv2.imwrite(str(folder / "masks" / f"{index:03}.png"), mask)


def hold_out_sequence(source: Path, folder: Path) -> None:
    """CamVid with sequence 0016E5 (all of the validation split) for validation only."""
    for split in ("train", "val"):
        for kind in ("", "annot"):
            (folder / f"{split}{kind}").mkdir(parents=True)
            for file in sorted((source / f"{split}{kind}").iterdir()):
                if split == "val" or "0016E5" not in file.name:
                    shutil.copy(file, folder / f"{split}{kind}")


@contextmanager
def adamw_for_encoder() -> Iterator[None]:
    """Muon updates the decoder only: the encoder's parameters count as output layers, which AdamW updates."""
    outputs = optim._output_names

    def with_encoder(model: nn.Module) -> frozenset[str]:
        return outputs(model) | {name for name, _ in model.named_parameters() if name.startswith("encoder.")}

    with patch.object(optim, "_output_names", with_encoder):
        yield


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: for each set, encoder and number of epochs, a row for each recipe, the best first."""
    lines = []
    for key in dict.fromkeys((result["set"], result["encoder"], result["epochs"]) for result in results):
        mine = [result for result in results if (result["set"], result["encoder"], result["epochs"]) == key]
        lines += ["", f"{key[0]}, {key[1]}, {key[2]} epochs", "", "| recipe | mIoU by seed | mean | minutes an epoch |"]
        lines += ["|---|---|---|---|"]
        rows = []
        for recipe in dict.fromkeys(result["recipe"] for result in mine):
            runs = [result for result in mine if result["recipe"] == recipe]
            mean = statistics.mean(result["miou"] for result in runs)
            mious = ", ".join(f"{result['miou']:.3f}" for result in runs)
            minutes = statistics.median(result["minutes"] for result in runs)
            rows.append((mean, f"| {recipe} | {mious} | {mean:.3f} | {minutes:.2f} |"))
        lines += [row for _, row in sorted(rows, reverse=True)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
