"""Scoring a predictor on labelled images: the same code for validation in training and for `pyramidseg evaluate`.

Legend: B batch, K classes, H W pixels.
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.backends import Backend, ModelBackend, RunPrecision, make_backend
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import Channels, DataConfig
from pyramidseg.base.device import rank, sum_dtype, sum_over_ranks, world_size
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.files import refuse_existing
from pyramidseg.base.log import track
from pyramidseg.base.machine import available_processors
from pyramidseg.base.text import first_few
from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import Dataset, MaskSource, Record
from pyramidseg.evaluation.confusion import confusion_matrix, most_likely
from pyramidseg.evaluation.evaluation_report import Example, choose_examples, make_example, write_report
from pyramidseg.evaluation.metrics import ImageScore, Scores, image_score, metrics_of
from pyramidseg.evaluation.read_ahead import in_batches, read_ahead
from pyramidseg.evaluation.tables import TABLES, write_tables
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.segmentation import predict_labels
from pyramidseg.predict.tile_planner import TilePlanner, TilePx
from pyramidseg.predict.tta import TestTimeAugmentation

logger = logging.getLogger(__name__)

__all__ = ["ImageScore", "Scores", "draw_examples", "evaluate", "score"]

Predict = Callable[[Tensor], Tensor]
"""(B, C, H, W) images in their own dtype to logits (B, K, h, w)."""

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Logits (B, K, H, W) and labels (B, H, W) int64 to a sum over pixels and its weight."""

MOST_READERS = 4
"""Threads that decode while the model computes; a few, as what they hold ready may be large."""

DEFAULT_DATA = DataConfig()


@torch.no_grad()
def score(
    predict_logits: Predict,
    records: Sequence[Record],
    masks: MaskSource,
    classes: Classes,
    *,
    channels: Channels,
    batch_size: int,
    device: torch.device,
    loss: Loss | None = None,
    each: Callable[[Record, Tensor], None] | None = None,
    tile_planner: TilePlanner | None = None,
) -> Scores:
    """Compare predictions with the truth at the truth's own size, over all processes of a distributed run.

    Each process scores every `world_size()`-th record; sums of counts and losses are added up, so that no image is
    padded, left out or counted twice. All processes get the same result.

    Args:
        predict_logits: in evaluation mode, and free of collectives (not the DDP wrapper): shards differ in length.
        loss: the result's loss is the total of its sums over the total of its weights.
        each: is handed every image of this process with its confusion (K, K).
        tile_planner: which images a backend is shown in tiles; without it, and without a backend, none.

    Raises:
        DataError: an image or a mask that cannot be used; names the file.
    """
    size = len(classes)
    confusion = torch.zeros(size, size, dtype=torch.int64, device=device)
    losses = torch.zeros(2, dtype=sum_dtype(device), device=device)
    per_image: list[ImageScore] = []
    mine = records[rank() :: world_size()]
    readers = min(MOST_READERS, available_processors())
    items = read_ahead(mine, masks, channels=channels, threads=readers)
    for batch in in_batches(track(items, total=len(mine), task="scoring"), batch_size=batch_size):
        truth, images = batch.labels.to(device), batch.images.to(device)
        if loss is None:
            labels = _labels(predict_logits, images, truth, tile_planner)
        else:
            logits = _at_size_of(truth, predict_logits(images))
            losses += torch.stack(loss(logits, truth.long())).to(losses)
            labels = most_likely(logits)
        matrices = torch.stack([_confusion(*item, size) for item in zip(batch.records, labels, truth, strict=True)])
        confusion += matrices.sum(dim=0)
        if each is not None:
            for record, matrix in zip(batch.records, matrices, strict=True):
                each(record, matrix)
        per_image += [
            image_score(record.id, matrix) for record, matrix in zip(batch.records, matrices.cpu(), strict=True)
        ]
    confusion = sum_over_ranks(confusion).cpu()
    loss_sum, loss_weight = sum_over_ranks(losses).tolist()
    return Scores(
        metrics=metrics_of(confusion, classes, images=len(records)),
        confusion=confusion,
        per_image=_gather(per_image, total=len(records)),
        loss=None if loss is None else _quotient(loss_sum, loss_weight),
    )


def evaluate(
    model: str | Path | Segmenter,
    dataset: str | Path | Dataset,
    *,
    split: str = "val",
    data: DataConfig = DEFAULT_DATA,
    out: str | Path | None = None,
    backend: str = "auto",
    device: str = "auto",
    precision: RunPrecision = "auto",
    batch_size: int = 4,
    tta: bool = False,
    tile_px: TilePx = "auto",
    overlap_px: int | None = None,
) -> Scores:
    """Score a model on one split, as `pyramidseg evaluate` does.

    Args:
        model: a bundle, an exported file, or a `Segmenter`.
        backend: name in `BACKENDS`, or `auto` (`make_backend`).
        precision: `auto` is fp32, and for an exported file what it was exported in.
        data: how the dataset is read where it does not say so itself: `ignore`, `binary`, `val_share`, `format`. Of
            a `Dataset` made in Python it may say `bands`, `val_share` and `group` only.
        out: folder for metrics.json, confusion.csv, per_image.csv and report.html.
        tta: average over flips and scales; the headline of DESIGN section 5 is without.
        tile_px, overlap_px: how large images are cut, as `Predictor` does it.

    Raises:
        WeightsError: the model cannot be loaded.
        DataError: the dataset cannot be read, or its classes are not the model's.
        OutputError: `out` holds an evaluation already, or cannot be written.
        ConfigError: a batch of none, or what `open_dataset`, `make_backend` and `TilePlanner` refuse.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size}: at least 1 is needed")
    if not isinstance(data, DataConfig):
        raise ConfigError(
            f"data={data!r}: a DataConfig is needed, such as pyramidseg.base.config.DataConfig(binary=True)"
        )
    folder = None if out is None else Path(out)
    if folder is not None:
        refuse_existing(folder, (*TABLES, "report.html"))
    ready = make_backend(model, backend, device=device, precision=precision)
    logger.info(f"backend {ready}")
    predict: Backend = TestTimeAugmentation(ready) if tta else ready
    tile_planner = TilePlanner(predict, tile_px=tile_px, overlap_px=overlap_px)
    opened = open_dataset(
        dataset,
        data,
        fallback_classes=ready.classes,
    )
    for line in (f"{opened.source}: {opened.layout}", *(f"  {note}" for note in opened.notes)):
        logger.info(line)
    check_classes(opened, ready.classes)
    records = opened.split(split)
    channels = opened.bands or ready.settings.channels
    scores = score(
        predict,
        records,
        opened.masks,
        ready.classes,
        channels=channels,
        batch_size=batch_size,
        device=ready.device,
        tile_planner=tile_planner,
    )
    if folder is not None:
        examples = draw_examples(
            predict,
            records,
            opened.masks,
            ready.classes,
            scores,
            channels=channels,
            device=ready.device,
            tile_planner=tile_planner,
        )
        source = "a Segmenter in memory" if isinstance(model, Segmenter) else str(model)
        write_tables(folder, scores)
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
            facts={"source": opened.source, "layout": opened.layout, "split": split, "images": len(records)},
            notes=opened.notes,
        )
    return scores


@torch.no_grad()
def draw_examples(
    predict_logits: Predict,
    records: Sequence[Record],
    masks: MaskSource,
    classes: Classes,
    scores: Scores,
    *,
    channels: Channels,
    device: torch.device,
    tile_planner: TilePlanner | None = None,
    count: int = 6,
) -> list[Example]:
    """The best and the worst images with truth, prediction and errors, for `write_report`; predicted once more."""
    chosen = {entry.record_id: entry for entry in choose_examples(scores.per_image, count)}
    examples = []
    for record in records:
        if record.id in chosen:
            image, truth = read_pair(record, masks, channels=channels)
            batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2).to(device)
            labels = _labels(predict_logits, batch, torch.from_numpy(truth)[None], tile_planner)[0]
            drawn = labels.to(torch.uint8).cpu().numpy()
            examples.append(make_example(record, image, truth, drawn, classes, chosen[record.id]))
    return examples


def _labels(predict_logits: Predict, images: Tensor, truth: Tensor, tile_planner: TilePlanner | None) -> Tensor:
    """Predicted classes at the size of the truth. A backend's come from its coarse logits: the same, and faster."""
    height, width = truth.shape[-2:]
    if isinstance(predict_logits, (ModelBackend, TestTimeAugmentation)) and images.shape[-2:] == (height, width):
        tiles = None if tile_planner is None else tile_planner.plan(height, width)
        return predict_labels(predict_logits, images, tiles).to(truth.device)
    return most_likely(_at_size_of(truth, predict_logits(images)))


def _at_size_of(labels: Tensor, logits: Tensor) -> Tensor:
    """Logits at the size of the truth: bilinear, where they are not already."""
    if logits.shape[-2:] == labels.shape[-2:]:
        return logits
    return F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)


def _confusion(record: Record, labels: Tensor, truth: Tensor, size: int) -> Tensor:
    try:
        return confusion_matrix(labels, truth, size)
    except DataError as error:
        raise DataError(f"{record.mask or record.image}: {error}") from None


def _quotient(above: float, below: float) -> float:
    return above / below if below else math.nan


def _gather(mine: list[ImageScore], *, total: int) -> tuple[ImageScore, ...]:
    """The scores of all processes, in the order of the records."""
    ranks = world_size()
    if ranks == 1:
        return tuple(mine)
    shards: list[list[ImageScore]] = [[] for _ in range(ranks)]
    dist.all_gather_object(shards, mine)
    return tuple(shards[index % ranks][index // ranks] for index in range(total))


def check_classes(dataset: Dataset, known: Classes) -> None:
    """Refuse a dataset whose classes are not the model's.

    Raises:
        DataError: names the first that differs.
    """
    if len(dataset.classes) != len(known):
        raise DataError(
            f"{dataset.source}: {len(dataset.classes)} classes, but the model knows {len(known)} "
            f"({first_few(known.names)}); evaluate it on a dataset with its own classes"
        )
    for index, (theirs, ours) in enumerate(zip(dataset.classes.names, known.names, strict=True)):
        if theirs != ours:
            raise DataError(
                f"{dataset.source}: class {index} is {theirs!r}, but the model calls it {ours!r}; "
                "names and order must agree: list the model's names under classes in the dataset's YAML file"
            )
