"""Losses that the package does not have, against its default: does one of them gain anything?

    python -m benchmarks.losses --camvid DIR --crackforest DIR --out DIR [--sets cells,...] [--losses ...]
        [--epochs 6] [--seeds 0]

Each candidate replaces a term of the loss, or adds to it, in otherwise equal training runs from ImageNet weights
(`pretrained_recipe.py`, which has the sets). A loss becomes a setting of the package only if it gains on a set.
Results are kept in OUT/results.json one by one. Table and conclusions: docs/recipe.md.

Sources: Lovasz-softmax, Berman et al. 2018, arXiv 1705.08790; Jaccard metric loss, Wang et al. 2023, arXiv 2302.05666
(for labels of one class a pixel it is the soft Jaccard loss); hard pixels (OHEM), Shrivastava et al. 2016,
arXiv 1604.03540, for pixels as in mmsegmentation; label smoothing, Szegedy et al. 2016, arXiv 1512.00567; deep
supervision, Lee et al. 2015, arXiv 1409.5185.

Legend: B batch, H W pixels, K classes, N pixels of an image.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from benchmarks.pretrained_recipe import prepare, run_recipes, train
from torch import Tensor

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import LossConfig
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training import losses, segmentation_gradients
from pyramidseg.training.losses import LOSSES, Loss, Targets, dice_sums, segmentation_loss, weighted_mean

SMOOTHING = 0.05
"""Share of the label that is spread over all classes."""

CLEAR, FEWEST = 0.7, 16
"""Pixels with a larger probability of their class are left out, unless fewer than one in `FEWEST` would be kept."""

DEEP = 0.4
"""Weight of the mean cross entropy of the levels."""


def smoothed_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """Sum of w[y] * cross entropy against smoothed labels; `log_p` (K, N), `labels` (N,), as in all of these."""
    weights, log_p_true = _true(log_p, labels, targets)
    return -(weights * ((1 - SMOOTHING) * log_p_true + SMOOTHING * log_p.mean(dim=0))).sum()


def hard_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """(2,): sums of w[y] * -log p[y] and of w[y] over the hard pixels."""
    weights, log_p_true = _true(log_p, labels, targets)
    hardest = max(1, int((weights > 0).sum()) // FEWEST)
    limit = log_p_true.detach().masked_fill(weights == 0, 0).kthvalue(min(hardest, len(labels))).values
    kept = weights * (log_p_true.detach() <= limit.clamp_min(torch.tensor(CLEAR).log().item()))
    return torch.stack([-(kept * log_p_true).sum(), kept.sum()])


def mean_of_sums(sums: Tensor, targets: Targets) -> Tensor:
    """The first sum by the second."""
    return sums[0] / sums[1].clamp_min(losses.SMALLEST) / targets.micro_batches


def jaccard_of_sums(sums: Tensor, targets: Targets) -> Tensor:
    """One minus the soft Jaccard index, averaged over the classes in the batch; from the sums of Dice."""
    overlap, predicted, present = sums.unbind()
    counted = present > 0
    scores = (overlap + 1) / (predicted + present - overlap + 1)
    return (1 - scores)[counted].mean() / targets.micro_batches if counted.any() else (overlap * 0).sum()


def lovasz_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """Lovasz-softmax of one image, averaged over the classes in it."""
    labelled = labels != IGNORE
    p, true = log_p[:, labelled].exp(), labels[labelled]
    terms = []
    for index in torch.bincount(true).nonzero()[:, 0].tolist():
        own = (true == index).to(p.dtype)
        errors, order = (own - p[index]).abs().sort(descending=True)
        own = own[order]
        union = own.sum() + (1 - own).cumsum(0)
        jaccard = 1 - (own.sum() - own.cumsum(0)) / union
        terms.append(errors @ torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]]))
    return torch.stack(terms).mean() if terms else (log_p * 0).sum()


def mean_over_images(total: Tensor, targets: Targets) -> Tensor:
    """The sum by the number of images of the batch."""
    return total / len(targets.labels) / targets.micro_batches


def _true(log_p: Tensor, labels: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Weight (0 if ignored) and log-probability of each pixel's class, (N,) each."""
    labelled = labels != IGNORE
    true = labels.where(labelled, 0)
    return targets.class_weights[true] * labelled, log_p.gather(0, true[None])[0]


@dataclass(frozen=True)
class Candidate:
    """Settings, and terms that replace those of these names; whether the levels are supervised too."""

    settings: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, Loss] = field(default_factory=dict)
    deep: bool = False


CANDIDATES = {
    "default": Candidate(),
    "no-dice": Candidate({"loss.dice": 0.0}),
    "focal-dice": Candidate({"loss.cross_entropy": 0.0, "loss.focal": 1.0}),
    "smoothing": Candidate(terms={"cross_entropy": Loss(smoothed_sums, weighted_mean)}),
    "hard-pixels": Candidate(terms={"cross_entropy": Loss(hard_sums, mean_of_sums)}),
    "borders": Candidate({"loss.border": 3.0}),
    "jaccard": Candidate(terms={"dice": Loss(dice_sums, jaccard_of_sums)}),
    "lovasz": Candidate(terms={"dice": Loss(lovasz_sums, mean_over_images)}),
    "deep": Candidate(deep=True),
}


@contextmanager
def in_place(candidate: Candidate) -> Iterator[None]:
    """The package's losses with the terms of a candidate."""
    with ExitStack() as stack:
        stack.enter_context(patch.dict(LOSSES, candidate.terms))
        if candidate.deep:
            levels = Levels(Segmenter.forward)
            stack.enter_context(patch.object(Segmenter, "forward", levels.watched()))
            stack.enter_context(patch.object(segmentation_gradients, "segmentation_loss", levels.loss))
        yield


class Levels:
    """Supervises each level's branch alone, given to the classifier as if it were the merged map."""

    def __init__(self, forward: Callable[[Segmenter, Tensor], Tensor]) -> None:
        self.forward, self.logits = forward, list[Tensor]()

    def watched(self) -> Callable[[Segmenter, Tensor], Tensor]:
        """The model's `forward`, which in training keeps the logits of the levels."""

        def forward(model: Segmenter, image_BCHW: Tensor) -> Tensor:
            if not model.training:
                return self.forward(model, image_BCHW)
            maps: list[Tensor] = []
            keep = [
                branch.register_forward_hook(lambda module, given, level: maps.append(level))
                for branch in model.decoder.branches
            ]
            logits = self.forward(model, image_BCHW)
            for handle in keep:
                handle.remove()
            size = logits.shape[-2:]
            self.logits = [F.interpolate(model.classifier(level).float(), size, mode="bilinear") for level in maps]
            return logits

        return forward

    def loss(self, logits: Tensor, targets: Targets, config: LossConfig) -> Tensor:
        """The package's loss, and the mean cross entropy of the levels."""
        total = segmentation_loss(logits, targets, config)
        for level in self.logits:
            terms = F.cross_entropy(level, targets.labels, targets.class_weights, ignore_index=IGNORE, reduction="sum")
            total = total + DEEP * terms / targets.weight_total / len(self.logits)
        return total


def main() -> None:
    """Run what is not yet in OUT/results.json, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camvid", type=Path)
    parser.add_argument("--crackforest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="cells")
    parser.add_argument("--losses", default=",".join(CANDIDATES))
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", default="0")
    arguments = parser.parse_args()

    def once(run: dict[str, Any]) -> dict[str, Any]:
        dataset, settings = prepare(run["set"], arguments)
        candidate = CANDIDATES[run["recipe"]]
        with in_place(candidate):
            return train(dataset, settings | candidate.settings, run, arguments.out)

    run_recipes(arguments, [arguments.encoder], arguments.losses.split(","), once)


if __name__ == "__main__":
    main()
