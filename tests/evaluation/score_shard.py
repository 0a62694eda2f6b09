"""Score synthetic images in one process of a group: RANK and WORLD_SIZE come from the environment.

Run by test_scoring.py; also holds what its other tests predict and make.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.records import Dataset, MaskSource, Record
from pyramidseg.evaluation.scoring import Scores, score

CLASSES = Classes.from_names(["sky", "road", "car"])
SIZES = [(8, 12), (8, 12), (8, 12), (5, 7), (8, 12), (1, 1), (5, 7)]


def make_records(folder: Path) -> list[Record]:
    """Random images and masks of mixed sizes, a third of the pixels ignored, one mask ignored whole."""
    rng = np.random.default_rng(7)
    records = []
    for index, size in enumerate(SIZES):
        record = Record(f"image{index}", folder / f"image{index}.png", folder / f"mask{index}.png")
        labels = rng.choice([0, 1, 2, 255], size=size).astype(np.uint8)
        if index == 3:
            labels[:] = 255
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(record.image)
        Image.fromarray(labels).save(record.mask)
        records.append(record)
    return records


def predict(images: Tensor) -> Tensor:
    """Logits in float64 from each pixel's own colour: red is sky, green is road, blue is car."""
    return images.double() / 64


def summed_cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return F.cross_entropy(logits, labels, ignore_index=255, reduction="sum"), (labels != 255).sum()


def made_dataset(records: list[Record], masks: MaskSource | None = None) -> Dataset:
    """The records as the validation split of a dataset."""
    return Dataset("made", "records", CLASSES, masks or ClassMasks.identity(len(CLASSES)), {"val": tuple(records)})


def score_records(records: list[Record], *, batch_size: int = 2) -> Scores:
    return score(
        predict,
        made_dataset(records),
        "val",
        channels=3,
        batch_size=batch_size,
        device=torch.device("cpu"),
        loss=summed_cross_entropy,
    )


def as_json(scores: Scores) -> str:
    per_image = [asdict(image) for image in scores.per_image]
    return json.dumps([scores.metrics.to_dict(), scores.confusion.tolist(), per_image, scores.loss])


def main(folder: Path, counts: list[int]) -> None:
    """Score the first `counts` records, for each of the counts."""
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size)
    records = [Record(f"image{i}", folder / f"image{i}.png", folder / f"mask{i}.png") for i in range(max(counts))]
    for count in counts:
        (folder / f"rank{rank}of{count}.json").write_text(as_json(score_records(records[:count])))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(count) for count in sys.argv[2:]])
