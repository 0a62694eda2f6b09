"""CamVid from random weights: our default recipe against segmentation_models.pytorch's FPN, epoch for epoch.

    python benchmarks/camvid/compare.py DATASET --out DIR [--who ours,notebook,adamw] [--seeds 0,1,2] [--epochs 30]

Both train ResNet-18 FPNs on the same images for as many epochs and are scored by the same code (native size, void
ignored, mean over 11 classes) with the weights of the last epoch, so that nothing is chosen on the validation split.
Results are kept in DIR/results.json one by one: a run that was cut off goes on where it was.

Recipes of the peer:
    notebook    its own CamVid notebook: Adam 2e-4, multiclass Dice, cosine to 1e-5, crops of 320, batch 8. Its
                augmentation (albumentations) is stood in for by scale 0.5-1.5, shift, flip and colour.
    adamw       what people change it to: AdamW 1e-3, cross entropy, scale 0.5-2, poly
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

import pyramidseg as ps
from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.config import DataConfig
from pyramidseg.base.device import autocast, resolve_precision
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.data.loading import TrainingLoader, TrainingSamples
from pyramidseg.data.pairs import FilePairs
from pyramidseg.data.transforms import Augmentation
from pyramidseg.evaluation.metrics import Metrics
from pyramidseg.evaluation.scoring import score
from pyramidseg.formats.open_dataset import open_dataset

CPU = torch.device("cpu")
PRECISION = resolve_precision("auto", CPU)
"""bf16 where the processor multiplies fast in it, else fp32: as ours, by default."""

CROP, BATCH = (320, 320), 8
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def ours(dataset: Path, *, seed: int, epochs: int, out: Path) -> Metrics:
    """`pyramidseg train DATASET --encoder resnet18 --encoder-weights none --epochs N`, and nothing else."""
    run = ps.train(dataset, out=out, encoder="resnet18", encoder_weights="none", epochs=epochs, seed=seed, resume=True)
    return ps.evaluate(run.last, dataset).metrics


def peer(dataset: Path, *, recipe: str, seed: int, epochs: int) -> Metrics:
    """The peer's model, trained by the recipe, with channels_last and the precision of ours."""
    torch.manual_seed(seed)
    data = open_dataset(dataset, DataConfig())
    model = smp.FPN("resnet18", encoder_weights=None, classes=len(data.classes)).to(memory_format=torch.channels_last)
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
                logits = model(normalized(batch.images))
            loss = loss_of(logits.float(), batch.labels.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"{recipe} seed {seed} epoch {epoch + 1}/{epochs} loss {np.mean(losses):.4f}", flush=True)
    model.eval()
    scores = score(
        lambda images: padded_logits(model, images),
        data,
        "val",
        channels=3,
        batch_size=4,
        device=torch.device("cpu"),
    )
    return scores.metrics


def normalized(images: torch.Tensor) -> torch.Tensor:
    """The peer's own preprocessing of ImageNet encoders."""
    return ((images.float() / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def padded_logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The peer takes multiples of 32 only: pad with the mean colour, crop the logits."""
    height, width = images.shape[-2:]
    padded = F.pad(normalized(images), (0, -width % 32, 0, -height % 32))
    with autocast(PRECISION, CPU):
        logits: torch.Tensor = model(padded)
    return logits[..., :height, :width].float()


def main() -> None:
    """Run what is not yet in DIR/results.json, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--who", default="ours,notebook,adamw")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "results.json"
    results: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    for seed in map(int, arguments.seeds.split(",")):
        for who in arguments.who.split(","):
            if any((done["who"], done["seed"], done["epochs"]) == (who, seed, arguments.epochs) for done in results):
                continue
            began = time.monotonic()
            if who == "ours":
                metrics = ours(arguments.dataset, seed=seed, epochs=arguments.epochs, out=arguments.out / f"ours{seed}")
            else:
                metrics = peer(arguments.dataset, recipe=who, seed=seed, epochs=arguments.epochs)
            results.append(
                {
                    "who": who,
                    "seed": seed,
                    "epochs": arguments.epochs,
                    "minutes": round((time.monotonic() - began) / 60, 1),
                    **metrics.to_dict(),
                }
            )
            file.write_text(json.dumps(results, indent=1))
    print(table(results))


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
