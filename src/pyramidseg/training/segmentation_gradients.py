"""The gradients of one step of segmentation, from labelled images and from the teacher's labels of others.

The teacher, which is the average of the weights, labels the weak views of unlabelled images, and the strong views are
learned. Sources: mean teacher, Tarvainen & Valpola 2017, arXiv 1703.01780; confident labels of weakly augmented images
for strongly augmented ones, FixMatch, Sohn et al. 2020, arXiv 2001.07685; mixed rectangles, CutMix, Yun et al. 2019,
arXiv 1905.04899, for segmentation French et al. 2019, arXiv 1906.01916.

Legend: B batch, C channels, H W pixels, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import LossConfig
from pyramidseg.base.device import autocast
from pyramidseg.base.distributed import broadcast_buffers, rank, sum_over_ranks
from pyramidseg.base.seeds import position_seed
from pyramidseg.data.loading import Batch
from pyramidseg.evaluation.metrics import argmax_labels, confusion_matrix
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.losses import SMALLEST, Targets, labelled_weight, presence_loss, segmentation_loss

CROSS_ENTROPY = LossConfig(cross_entropy=1.0, dice=0.0)
MIXED, MIXED_SIDES = 0.5, (0.3, 0.7)
"""Share of the views that get a rectangle of another one, and its sides as shares of the view's."""


class TrainingModel(nn.Module):
    """The Segmenter with one `forward` for all that the loss needs.

    DistributedDataParallel only handles what is computed in `forward`.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) to logits (B, K, H, W) and image-level logits (B, K), or None without an image-level head."""
        if self.segmenter.head is None:
            return self.segmenter(image_BCHW), None
        return self.segmenter.logits_with_image_logits(image_BCHW)


@dataclass(frozen=True)
class PseudoLabels:
    """Strongly augmented views with the teacher's labels.

    Attributes:
        batches: labels are on the device, int64, and `IGNORE` where the teacher is not confident.
        pixels: of all these views in the step, confident or not, over all processes: few confident ones weigh little.
        counts: (2, K) pixels that the teacher gave each class, and those of them that are accepted.
    """

    batches: Sequence[Batch]
    pixels: Tensor
    counts: Tensor

    def share_of(self, index: int, logits: Tensor) -> Tensor:
        """This process's share of the cross entropy over all pixels, from the logits (B, K, H, W) of one batch."""
        ones = self.pixels.new_ones(logits.shape[1])
        return segmentation_loss(logits, Targets(self.batches[index].labels, ones, self.pixels), CROSS_ENTROPY)


@torch.no_grad()
def label_by_teacher(
    accelerator: Accelerator, teacher: nn.Module, batches: Sequence[Batch], number: int, *, loss: LossConfig
) -> PseudoLabels:
    """Label batches of unlabelled images, each with two views.

    The teacher has its own statistics of batch norm, averaged like its weights, and is in evaluation mode.

    Args:
        number: the step's number in the run, which seeds the rectangles.
    """
    broadcast_buffers(teacher)  # or processes that resume with the first one's would label differently
    mixed, counts = [], []
    for index, batch in enumerate(batches):
        weak, strong = batch.images.chunk(2, dim=1)
        weak = weak.to(accelerator.device).contiguous(memory_format=torch.channels_last)
        with autocast(accelerator.precision, accelerator.device):
            logits = teacher(weak)
        confidence, classes = logits.to(accelerator.dtype).softmax(dim=1).max(dim=1)
        inside = accelerator.labels(batch.labels) != IGNORE
        accepted = inside & (confidence >= loss.confidence)
        counts += [torch.bincount(classes[chosen], minlength=logits.shape[1]) for chosen in (inside, accepted)]
        labels = classes.where(accepted, IGNORE)
        seed = position_seed("mixed rectangles", accelerator.seed, number, index, rank())
        strong, labels = mix_rectangles(strong, labels, np.random.default_rng(seed))
        mixed.append(Batch(strong.contiguous(memory_format=torch.channels_last), labels, batch.keys))
    by_class = torch.stack([torch.stack(counts[start::2]).sum(dim=0) for start in (0, 1)])
    pixels = sum_over_ranks(by_class[0].sum()).to(accelerator.dtype).clamp_min(SMALLEST)
    return PseudoLabels(mixed, pixels, by_class)


def mix_rectangles(images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Put rectangles of the previous image of a batch, with their labels, into half of the images.

    Args:
        images: (B, C, H, W).
        labels: (B, H, W).
    """
    images, labels, others, other_labels = images.clone(), labels.clone(), images.roll(1, 0), labels.roll(1, 0)
    for index in range(len(images)):
        if rng.random() >= MIXED:
            continue
        sides = [max(1, round(side * rng.uniform(*MIXED_SIDES))) for side in labels.shape[1:]]
        starts = [int(rng.integers(0, whole - side + 1)) for whole, side in zip(labels.shape[1:], sides, strict=True)]
        rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        images[index, :, rows, columns] = others[index, :, rows, columns]
        labels[index, rows, columns] = other_labels[index, rows, columns]
    return images, labels


def accepted_shares(counts: Tensor, names: Sequence[str]) -> dict[str, float | None]:
    """Columns of metrics.csv: the accepted share of the pixels that the teacher gave each class, and of all.

    Args:
        counts: (2, K) of an epoch, see `PseudoLabels`.
    """
    given, accepted = counts.tolist()
    shares = {
        f"accepted_{name}": part / whole if whole else None
        for name, whole, part in zip(names, given, accepted, strict=True)
    }
    return {"unlabeled_accepted": sum(accepted) / max(1, sum(given)), **shares}


def segmentation_gradients(
    accelerator: Accelerator,
    module: nn.Module,
    batches: Sequence[Batch],
    number: int,
    *,
    loss: LossConfig,
    class_weights: Tensor,
    loss_scale: float = 1.0,
    pseudo: PseudoLabels | None = None,
) -> tuple[Tensor, Tensor]:
    """`Task.gradients` of a `TrainingModel`; the counts are the confusion matrix (K, K), and those of `pseudo` below.

    The losses of the image-level head and of unlabelled images are minimised too, but not part of the returned loss, so
    that training loss and validation loss have the same terms.
    """
    labels = [accelerator.labels(batch.labels) for batch in batches]
    images = torch.tensor(sum(map(len, labels)), device=accelerator.device)
    totals = sum_over_ranks(torch.stack([*(labelled_weight(part, class_weights) for part in labels), images]))
    weight_total, images_total = totals[:-1].sum().clamp_min(SMALLEST), int(totals[-1])
    confusion = torch.zeros(len(class_weights), len(class_weights), dtype=torch.int64, device=accelerator.device)
    pixel_loss = torch.zeros((), device=accelerator.device, dtype=accelerator.dtype)

    def share_of(index: int, output: tuple[Tensor, Tensor | None]) -> Tensor:
        logits, image_logits = output
        if pseudo is not None and index >= len(batches):
            share = loss.unlabeled_weight * pseudo.share_of(index - len(batches), logits)
            # DistributedDataParallel waits for the gradient of every parameter after the last micro-batch.
            return share if image_logits is None else share + 0 * image_logits.to(accelerator.dtype).sum()
        targets = Targets(labels[index], class_weights, weight_total, len(batches), loss.focal_gamma)
        share = segmentation_loss(logits, targets, loss)
        pixel_loss.add_(share.detach())
        if image_logits is not None:
            share = share + loss.presence * presence_loss(
                image_logits.to(accelerator.dtype), labels[index], images_total=images_total
            )
        confusion.add_(confusion_matrix(argmax_labels(logits.detach()), labels[index], len(class_weights)))
        return share

    added = pseudo.batches if pseudo else []
    accelerator.forward_backward(module, [*batches, *added], number, loss=share_of, loss_scale=loss_scale)
    return pixel_loss, torch.cat([confusion, pseudo.counts]) if pseudo else confusion
