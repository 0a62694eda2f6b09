"""Score a model on labelled images, for validation in training and for `pyramidseg evaluate`.

Legend: B batch, K classes, H W pixels.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from pyramidseg.backends import Backend, ModelBackend, RunPrecision, make_backend
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.device import sum_dtype
from pyramidseg.base.distributed import rank, sum_over_ranks, world_size
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.files import refuse_existing
from pyramidseg.base.output_lock import locks_out
from pyramidseg.base.setting_types import Channels
from pyramidseg.base.text import first_few
from pyramidseg.data.pairs import ReorderedMasks, read_pair, set_name
from pyramidseg.data.records import Dataset, DatasetSource, Record
from pyramidseg.evaluation.evaluation_report import SCORE_FILES, write_report, write_score_tables
from pyramidseg.evaluation.example_images import Example, make_example, select_examples
from pyramidseg.evaluation.metrics import (
    ImageScore,
    Scores,
    argmax_labels,
    compute_image_score,
    compute_metrics,
    confusion_matrix,
    scores_of_set,
)
from pyramidseg.evaluation.pair_batches import read_batches
from pyramidseg.formats.open_dataset import DEFAULT_DATA, open_dataset
from pyramidseg.images.value_range import RangeCheck, ValueRange
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.segmentation import predict_labels
from pyramidseg.predict.tile_planner import TilePlanner, TilePx
from pyramidseg.predict.tta import TestTimeAugmentation, resize_logits

logger = logging.getLogger(__name__)

PredictLogits = Callable[[Tensor], Tensor]
"""(B, C, H, W) images in their own dtype to logits (B, K, h, w)."""

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Logits (B, K, H, W) and labels (B, H, W) int64 to the sum of the loss over pixels and the sum of their weights."""


@torch.no_grad()
def score(
    predict_logits: PredictLogits,
    dataset: Dataset,
    split: str,
    *,
    channels: Channels,
    batch_size: int,
    device: torch.device,
    loss: Loss | None = None,
    on_image: Callable[[Record, Tensor], None] | None = None,
    tile_planner: TilePlanner | None = None,
    value_range: ValueRange | None = None,
) -> Scores:
    """Compare predictions with the true labels of a split, at their size, over all processes of a distributed run.

    Each process scores every `world_size()`-th record, and counts and losses are summed over the processes: no image is
    padded, left out or counted twice. All processes get the same result.

    Args:
        predict_logits: in evaluation mode and without collectives (not the DDP wrapper): shards differ in length.
        loss: the result has its total over all pixels, divided by their total weight.
        on_image: called with every record of this process and its confusion matrix (K, K).
        tile_planner: which images a backend is shown in tiles; without it, and without a backend, none.
        value_range: of the model's training images, which these are compared with.

    Raises:
        DataError: an image or a mask cannot be used; names the file.
    """
    records, classes = dataset.split(split), dataset.classes
    size, sets = len(classes), {name: place for place, name in enumerate(dataset.sets)}
    by_set = torch.zeros(max(1, len(sets)), size, size, dtype=torch.int64, device=device)
    losses = torch.zeros(2, dtype=sum_dtype(device), device=device)
    per_image: list[ImageScore] = []
    mine = records[rank() :: world_size()]
    check_range = RangeCheck(value_range)
    for batch in read_batches(mine, dataset.masks, channels=channels, batch_size=batch_size, task="scoring"):
        for record, image in zip(batch.records, batch.images.numpy(), strict=True):
            check_range(image, record.image)
        truth, images = batch.labels.to(device), batch.images.to(device)
        if loss is None:
            try:
                labels = _predict_labels(predict_logits, images, truth, tile_planner)
            except DataError as error:
                raise DataError(f"{first_few(record.image for record in batch.records)}: {error}") from None
        else:
            logits = resize_logits(predict_logits(images), *truth.shape[-2:])
            losses += torch.stack(loss(logits, truth.long())).to(losses)
            labels = argmax_labels(logits)
        matrices = torch.stack([_confusion(*item, size) for item in zip(batch.records, labels, truth, strict=True)])
        for record, matrix in zip(batch.records, matrices, strict=True):
            by_set[sets.get(set_name(record), 0)] += matrix
            if on_image is not None:
                on_image(record, matrix)
        per_image += [
            compute_image_score(record.id, matrix) for record, matrix in zip(batch.records, matrices.cpu(), strict=True)
        ]
    by_set = sum_over_ranks(by_set).cpu()
    confusion = by_set.sum(dim=0)
    loss_sum, loss_weight = sum_over_ranks(losses).tolist()
    return Scores(
        metrics=compute_metrics(confusion, classes, images=len(records)),
        confusion=confusion,
        per_image=_gather(per_image, total=len(records)),
        loss=None if loss is None else loss_sum / loss_weight if loss_weight else math.nan,
        by_set={
            name: scores_of_set(by_set[place], images=sum(set_name(record) == name for record in records))
            for name, place in sets.items()
            if by_set[place].any()
        },
    )


@locks_out
def evaluate(
    model: str | Path | Segmenter,
    dataset: DatasetSource,
    *,
    split: str = "val",
    data: DataConfig = DEFAULT_DATA,
    out: str | Path | None = None,
    backend: str = "auto",
    device: str = "auto",
    precision: RunPrecision = "auto",
    as_written: bool = False,
    batch_size: int = 4,
    tta: bool = False,
    tile_px: TilePx = "auto",
    overlap_px: int | None = None,
) -> Scores:
    """Score a model on one split, as `pyramidseg evaluate` does.

    Args:
        model: a bundle, an exported file, or a `Segmenter`, also compiled or in DataParallel.
        backend: name in `BACKENDS`, or `auto` (`make_backend`).
        precision: `auto` is fp32, and for an exported file what it was exported in.
        as_written: compute every layer of the decoder (`make_backend`).
        data: how to read the dataset, as in training: `ignore`, `binary`, `val_share`, `format`, ... For a `Dataset`
            only `bands`, `val_share` and `group` have an effect; others are refused.
        out: folder for metrics.json, confusion.csv, per_image.csv and report.html.
        tta: test-time augmentation: average over flips and scales. Published scores are usually without.
        tile_px: edge of the tiles into which large images are cut; by default chosen as `Predictor` does.
        overlap_px: overlap of neighbouring tiles.

    Raises:
        WeightsError: the model cannot be loaded.
        DataError: the dataset cannot be read, or its classes differ from the model's.
        OutputError: `out` already contains an evaluation, or cannot be written.
        ConfigError: a batch of none, or what `open_dataset`, `make_backend` and `TilePlanner` refuse.
    """
    if batch_size < 1:
        raise ConfigError(f"`batch_size={batch_size}`: must be at least 1")
    folder = None if out is None else Path(out)
    if folder is not None:
        refuse_existing(folder, (*SCORE_FILES, "report.html"))
    ready = make_backend(model, backend, device=device, precision=precision, as_written=as_written)
    logger.info(f"backend {ready}")
    predict: Backend = TestTimeAugmentation(ready) if tta else ready
    tile_planner = TilePlanner(predict, tile_px=tile_px, overlap_px=overlap_px)
    opened = open_dataset(dataset, data, fallback_classes=ready.classes)
    for line in (f"{opened.source}: {opened.layout}", *(f"  {note}" for note in opened.notes)):
        logger.info(line)
    opened = with_classes(opened, ready.classes)
    channels = opened.bands or ready.settings.channels
    scores = score(
        predict,
        opened,
        split,
        channels=channels,
        batch_size=batch_size,
        device=ready.device,
        tile_planner=tile_planner,
        value_range=ready.value_range,
    )
    if folder is not None:
        examples = draw_examples(
            predict, opened, split, scores, channels=channels, device=ready.device, tile_planner=tile_planner
        )
        refuse_existing(folder, (*SCORE_FILES, "report.html"))  # others may have written there in the meantime
        source = "a Segmenter in memory" if isinstance(model, nn.Module) else str(model)
        write_score_tables(folder, scores)
        write_report(
            folder / "report.html",
            title=f"Evaluation on {Path(opened.source).name}, split {split}",
            scores=scores,
            classes=ready.classes,
            examples=examples,
            settings={
                "evaluation": {"model": source, "backend": str(ready), "tta": tta},
                "model": ready.settings.model_dump(mode="json"),
            },
            facts={"source": opened.source, "layout": opened.layout, "split": split, "images": scores.metrics.images},
            notes=opened.notes,
        )
    return scores


@torch.no_grad()
def draw_examples(
    predict_logits: PredictLogits,
    dataset: Dataset,
    split: str,
    scores: Scores,
    *,
    channels: Channels,
    device: torch.device,
    tile_planner: TilePlanner | None = None,
) -> list[Example]:
    """The best and the worst images with truth, prediction and errors, for `write_report`; predicts them again."""
    chosen = {entry.record_id: entry for entry in select_examples(scores.per_image)}
    examples = []
    for record in dataset.split(split):
        if record.id in chosen:
            image, truth = read_pair(record, dataset.masks, channels=channels)
            batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2).to(device)
            labels = _predict_labels(predict_logits, batch, torch.from_numpy(truth)[None], tile_planner)[0]
            drawn = labels.to(torch.uint8).cpu().numpy()
            examples.append(make_example(image, truth, drawn, dataset.classes, chosen[record.id]))
    return examples


def _predict_labels(
    predict_logits: PredictLogits, images: Tensor, truth: Tensor, tile_planner: TilePlanner | None
) -> Tensor:
    """Predicted classes at the size of the truth; a backend computes them faster from its coarse logits."""
    height, width = truth.shape[-2:]
    if isinstance(predict_logits, (ModelBackend, TestTimeAugmentation)) and images.shape[-2:] == (height, width):
        tiles = None if tile_planner is None else tile_planner.plan(height, width)
        return predict_labels(predict_logits, images, tiles).to(truth.device)
    return argmax_labels(resize_logits(predict_logits(images), height, width))


def _confusion(record: Record, labels: Tensor, truth: Tensor, size: int) -> Tensor:
    try:
        return confusion_matrix(labels, truth, size)
    except DataError as error:
        raise DataError(f"{record.mask or record.image}: {error}") from None


def _gather(mine: list[ImageScore], *, total: int) -> tuple[ImageScore, ...]:
    """Scores of all processes, in the order of the records."""
    ranks = world_size()
    if ranks == 1:
        return tuple(mine)
    shards: list[list[ImageScore]] = [[] for _ in range(ranks)]
    dist.all_gather_object(shards, mine)
    return tuple(shards[index % ranks][index // ranks] for index in range(total))


def with_classes(dataset: Dataset, known: Classes) -> Dataset:
    """The dataset with the model's classes: those of the same names in another order are mapped by name.

    Raises:
        DataError: other names; names the first difference.
    """
    names = dataset.classes.names
    own, other = (first_few(sorted({*some} - {*rest})) for some, rest in ((names, known.names), (known.names, names)))
    sides = f"only in the dataset: {own}; only in the model: {other}"
    if len(names) != len(known):
        raise DataError(
            f"{dataset.source}: {len(names)} classes, but the model has {len(known)}; {sides}; evaluate it on a "
            "dataset with its own classes, or list those in the dataset's YAML file"
        )
    if names == known.names:
        return dataset
    if sorted(names) == sorted(known.names):
        table = np.arange(256, dtype=np.uint8)
        table[: len(names)] = [known.names.index(name) for name in names]
        logger.info(f"{dataset.source}: its classes come in another order than the model's, and are mapped by name")
        return replace(dataset, classes=known, masks=ReorderedMasks(dataset.masks, table.tobytes()))
    index = next(index for index, name in enumerate(names) if name != known.names[index])
    advice = (
        "list the model's names under classes in the dataset's YAML file, in the order of the mask values"
        if names == Classes.unnamed(len(names)).names
        else f"{sides}; rename those in the dataset that mean the same"
    )
    raise DataError(
        f"{dataset.source}: class {index} is {names[index]!r}, but the model calls it {known.names[index]!r}; {advice}"
    )
