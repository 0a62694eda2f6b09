"""Weights composed in each step of training: tried, and not part of the package, as it gains too little.

    python -m benchmarks.composed_training [--encoders resnet18,tf_efficientnet_lite0] [--batch-size 4] [--rounds 5]
        [--precision fp32]

The first convolution of a level's branch is composed with smoothing and the lateral convolution, as prediction does it
(`model/reassociation.py`), but in every step, so that the gradients are those of the network as written, up to
rounding; neither the merged map of the level nor the smoothed one is computed or kept for the backward pass. A level is
computed so where that saves clearly more multiplications than composing takes. Prints, for the gradients of a batch of
crops of 320 on one thread, the processor time of the network as written and composed, in turn, and how far the
gradients differ. Conclusions: docs/prediction.md.

Legend: B batch, C channels of an encoder map, H W pixels, P pyramid channels, S segmentation channels.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyramidseg as ps
from pyramidseg.base.config import LossConfig
from pyramidseg.base.device import autocast, channels_last
from pyramidseg.model.composed_convolutions import compose
from pyramidseg.model.fpn import ConvNormReLU, FPNDecoder
from pyramidseg.training.grouped_convolutions import fast_grouped_gradients
from pyramidseg.training.losses import Targets, segmentation_loss

WORTH = 4.0
"""Least ratio of multiplications saved to multiplications that compose the weights, which are slower ones."""

CROP_PX, CLASSES = 320, 11
CPU = torch.device("cpu")


def main() -> None:
    """Print a line for each encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", default="resnet18,tf_efficientnet_lite0")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for encoder in arguments.encoders.split(","):
        torch.manual_seed(0)
        step = open_step(encoder, arguments.batch_size, arguments.precision)
        wanted, got = step(False)[1], step(True)[1]
        difference = (got - wanted).norm() / wanted.norm()
        pairs = [(step(False)[0], step(True)[0]) for _ in range(arguments.rounds)]
        written, composed = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{encoder}, {arguments.precision}, batch of {arguments.batch_size}: as written {written:.2f} s, composed"
            f" {composed:.2f} s, {written / composed:.2f} times as fast; gradients differ by {difference:.1e}",
            flush=True,
        )


def open_step(encoder: str, batch: int, precision: str) -> Callable[[bool], tuple[float, Tensor]]:
    """A function that computes the gradients of a batch, and returns its processor time in seconds and all of them."""
    model = ps.create_model(encoder, num_classes=CLASSES, encoder_weights="none", dropout=0.0)
    model = channels_last(model.train())
    images = (torch.rand(batch, 3, CROP_PX, CROP_PX) * 255).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch, CROP_PX, CROP_PX))
    targets = Targets(labels, torch.ones(CLASSES), torch.tensor(float(labels.numel())))
    written = FPNDecoder.forward

    def step(composed: bool) -> tuple[float, Tensor]:
        model.zero_grad()
        began = time.process_time()
        with patch.object(FPNDecoder, "forward", composed_decoder if composed else written):
            with autocast(precision, CPU), fast_grouped_gradients(precision, CPU):  # type: ignore[arg-type]
                logits = model(images)
            segmentation_loss(logits, targets, LossConfig()).backward()
        spent = time.process_time() - began
        return spent, torch.cat([part.grad.flatten() for part in model.parameters() if part.grad is not None])

    return step


def first_after(first: ConvNormReLU, level: Tensor) -> Tensor:
    """`ConvNormReLU.forward` after its convolution."""
    level = F.relu(first.norm(level))
    if not first.upsample:
        return level
    return F.interpolate(level, scale_factor=2.0, mode="bilinear", align_corners=first.align_corners)


def composed_decoder(decoder: FPNDecoder, maps: Sequence[Tensor]) -> Tensor:
    """`FPNDecoder.forward`, with the levels composed where that saves time; for merge=add."""
    total: Tensor | None = None
    coarser: Tensor | None = None
    for index in reversed(range(len(maps))):
        first, *rest = decoder.branches[index].children()
        lateral, smoothing = decoder.pyramid.lateral[index], decoder.pyramid.smoothing[index]
        assert isinstance(first, ConvNormReLU) and isinstance(lateral, nn.Conv2d) and isinstance(smoothing, nn.Conv2d)
        composed = coarser is not None and saves_time(maps[index].shape, first.conv.weight.shape)
        if composed and coarser is not None:
            level = composed_level(maps[index], coarser, lateral, smoothing, first.conv)
            output = first_after(first, level)
        if index or not composed:
            merged = lateral(maps[index])
            coarser = merged if coarser is None else merged + F.interpolate(coarser, scale_factor=2.0, mode="nearest")
        if not composed:
            output = first(smoothing(coarser))
        for module in rest:
            output = module(output)
        total = output if total is None else output + total
    assert total is not None
    return total


def saves_time(own: Sequence[int], branch: Sequence[int]) -> bool:
    """Whether composing saves clearly more multiplications than it takes.

    Args:
        own: (B, C, H, W) of the encoder's map.
        branch: (S, P, 3, 3) of the weights.
    """
    (batch, channels, height, width), (s, p) = own, branch[:2]
    saved = channels * p + 9 * p * p + 9 * p * s - s * (25 * channels + 9 * p)
    composing = 9 * p * p * channels + 81 * s * p * (channels + p)
    return bool(batch * height * width * saved > WORTH * composing)


def composed_level(own: Tensor, coarser: Tensor, lateral: nn.Conv2d, smoothing: nn.Conv2d, branch: nn.Conv2d) -> Tensor:
    (height, width), outputs = own.shape[-2:], len(branch.weight)
    assert smoothing.bias is not None and lateral.bias is not None
    narrow = _compose(branch.weight, torch.einsum("opyx,pc->ocyx", smoothing.weight, lateral.weight[:, :, 0, 0]))
    wide = _compose(branch.weight, smoothing.weight)
    # A lateral bias is the same as a constant that is added before upsampling, where the zeros around are right.
    raised = coarser + lateral.bias[:, None, None]
    output = F.conv2d(own, narrow, branch.weight.sum((2, 3)) @ smoothing.bias, padding=2)
    phases = F.conv2d(raised, _phases(wide), padding=1).permute(0, 2, 3, 1)
    phases = phases.view(*phases.shape[:3], 2, 2, outputs).permute(0, 1, 3, 2, 4, 5)
    output = output + phases.reshape(-1, height, width, outputs).permute(0, 3, 1, 2)
    return _without_ring(output, own, raised, lateral, smoothing, branch)


def _without_ring(
    output: Tensor, own: Tensor, raised: Tensor, lateral: nn.Conv2d, smoothing: nn.Conv2d, branch: nn.Conv2d
) -> Tensor:
    """Subtract what the branch would take from smoothed values just outside the image (`model.reassociation.Ring`)."""
    assert smoothing.bias is not None
    for outside, inside, edge in ((0, 2, 0), (2, 0, -1)):
        kernel = compose(branch.weight[:, :, outside, None], smoothing.weight[:, :, inside, None])[:, :, 0]
        line = _merged_line(own[:, :, edge], raised[:, :, edge], lateral)
        bias = branch.weight[:, :, outside].sum(2) @ smoothing.bias
        top = F.conv1d(line, kernel, bias, padding=2)
        line = _merged_line(own[..., edge], raised[..., edge], lateral)
        line = F.conv1d(line, smoothing.weight[..., inside], smoothing.bias, padding=1)
        side = F.conv1d(line, branch.weight[..., outside], padding=1)
        output[:, :, edge] -= top
        output[..., edge] -= side
    return output


def _merged_line(own: Tensor, raised: Tensor, lateral: nn.Conv2d) -> Tensor:
    """(B, C, W) and (B, P, W / 2) to a row or column (B, P, W) of the level's merged map."""
    return F.conv1d(own, lateral.weight[..., 0]) + raised.repeat_interleave(2, dim=2)


def _phases(kernel: Tensor) -> Tensor:
    """`composed_convolutions.phase_kernel` of (O, I, 5, 5) at factor 2, as a product: (4 * O, I, 3, 3)."""
    taps = kernel.new_zeros(2, 3, 5)  # phase, tap, offset
    for phase in range(2):
        for offset in range(5):
            taps[phase, (phase + offset) // 2, offset] = 1
    return torch.einsum("puy,qvx,oiyx->pqoiuv", taps, taps, kernel).reshape(-1, kernel.shape[1], 3, 3)


def _compose(outer: Tensor, inner: Tensor) -> Tensor:
    """`composed_convolutions.compose` of 3x3 kernels as one matrix product, which is the fast way to have gradients.

    Args:
        outer: (O, M, 3, 3).
        inner: (M, I, 3, 3).

    Returns:
        (O, I, 5, 5).
    """
    (count, middle), inputs = outer.shape[:2], inner.shape[1]
    taps = outer.permute(2, 3, 0, 1).reshape(-1, middle) @ inner.permute(0, 2, 3, 1).reshape(middle, -1)
    taps = taps.view(3, 3, count, 3, 3, inputs)
    rows = [
        F.pad(taps[row, column], (0, 0, column, 2 - column, row, 2 - row)) for row in range(3) for column in range(3)
    ]
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total.permute(0, 3, 1, 2)


if __name__ == "__main__":
    main()
