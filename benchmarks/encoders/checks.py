"""What a segmenter with an encoder has to do: any size, any channels, gradients everywhere, bundles, other levels."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from pyramidseg.base.errors import ConfigError
from pyramidseg.model.cost import describe_cost
from pyramidseg.model.segmenter import Segmenter

SIZES = ((1, 1), (33, 47), (64, 96))
"""Heights and widths; none but the last divides by anything."""

TRAINING_SIZE = (65, 97)

CHANNELS = (1, 4, 13)
"""Beside 3, which all else is checked with."""

OTHER_LEVELS = {2: (2, 32), 8: (4, 8), 16: (4, 16)}
"""Finest and coarsest strides beside 4 and 32, by the one that is another."""

COST_SIDE_PX = 512

CLASSES = 3


class CheckFailed(Exception):
    """An encoder was accepted, and does not do what it has to."""


@dataclass(frozen=True)
class Facts:
    """What the checks found out about an encoder that works.

    Attributes:
        parameters: of the encoder alone, as built for strides 4 to 32.
        macs: multiply-accumulates of the encoder alone, for one image of `COST_SIDE_PX` squared.
        size_multiple: pixels that images are padded to multiples of.
        other_strides: those of 2, 8 and 16 that can be had as the finest and the coarsest stride.
    """

    parameters: int
    macs: int
    coarsest_channels: int
    size_multiple: int
    other_strides: tuple[int, ...]


def build(encoder: str, **settings: int) -> Segmenter:
    """An untrained segmenter with a narrow decoder, the same each time, in evaluation mode."""
    torch.manual_seed(0)
    narrow = {"pyramid_channels": 32, "segmentation_channels": 32}
    return Segmenter(num_classes=CLASSES, encoder=encoder, encoder_weights="none", **narrow, **settings).eval()


def check_encoder(encoder: str) -> Facts:
    """All checks, in the order of the columns of the table.

    Raises:
        ConfigError: the encoder is refused, with the reason.
        CheckFailed: it is not refused, and something is wrong with it.
    """
    model = build(encoder)
    check_sizes(model)
    check_gradients(model)
    for channels in CHANNELS:
        check_sizes(build(encoder, in_channels=channels), sizes=SIZES[1:2])
    check_bundle(model)
    other_strides = tuple(stride for stride, ends in OTHER_LEVELS.items() if check_levels(encoder, *ends))
    parts = [part for part in describe_cost(model, COST_SIDE_PX, COST_SIDE_PX).parts if part.name.startswith("encoder")]
    parameters = sum(parameter.numel() for parameter in model.encoder.parameters())
    _require(parameters == sum(part.parameters for part in parts), "describe_cost counts other parameters")
    return Facts(
        parameters=parameters,
        macs=sum(part.macs for part in parts),
        coarsest_channels=model.encoder.channels[-1],
        size_multiple=model.encoder.size_multiple,
        other_strides=other_strides,
    )


def check_sizes(model: Segmenter, *, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
    """Logits are finite and of the image's own height and width."""
    for height, width in sizes:
        logits = _logits(model, height, width)
        shape, wanted = tuple(logits.shape), (1, CLASSES, height, width)
        _require(shape == wanted, f"logits of an image of {height}x{width} are {shape}, not {wanted}")
        _require(bool(logits.isfinite().all()), f"logits of an image of {height}x{width} are not finite")


def check_gradients(model: Segmenter) -> None:
    """Each parameter gets a gradient, and a finite one; the model is left in evaluation mode, without gradients."""
    height, width = TRAINING_SIZE
    model.train()
    torch.manual_seed(0)
    labels = torch.randint(CLASSES, (2, height, width))
    F.cross_entropy(model(torch.rand(2, model.settings.in_channels, height, width)), labels).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    without = [name for name, gradient in gradients.items() if gradient is None]
    broken = [name for name, gradient in gradients.items() if gradient is not None and not gradient.isfinite().all()]
    _require(not without, f"{len(without)} of {len(gradients)} parameters get no gradient: {', '.join(without[:3])}")
    _require(not broken, f"{len(broken)} of {len(gradients)} gradients are not finite: {', '.join(broken[:3])}")
    model.zero_grad()
    model.eval()


def check_bundle(model: Segmenter) -> None:
    """A saved and loaded model gives the same logits, bit by bit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        loaded = Segmenter.load(path)
    _require(torch.equal(_logits(model, *SIZES[1]), _logits(loaded, *SIZES[1])), "a loaded bundle has other logits")


def check_levels(encoder: str, finest: int, coarsest: int) -> bool:
    """With other levels it works too, or is refused with a reason; returns which."""
    try:
        model = build(encoder, finest_stride=finest, coarsest_stride=coarsest)
    except ConfigError:
        return False
    check_sizes(model, sizes=SIZES[1:2])
    check_gradients(model)
    return True


@torch.inference_mode()
def _logits(model: Segmenter, height: int, width: int) -> torch.Tensor:
    torch.manual_seed(0)
    logits: torch.Tensor = model(torch.rand(1, model.settings.in_channels, height, width))
    return logits


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckFailed(otherwise)
