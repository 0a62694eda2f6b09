"""Cost of a model by part: output shapes, parameters and multiply-accumulates (MACs).

Convolutions and matrix products are counted, as in the papers: each output value of a convolution costs one
multiply-accumulate per weight of its filter. Matrix products are those of fully connected layers and of attention.
Norms, activations and upsampling are not counted; they are a few per cent of the arithmetic.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyramidseg.base.config import ModelConfig
from pyramidseg.model.encoder import Encoder, part_finder
from pyramidseg.model.segmenter import Segmenter


@dataclass(frozen=True)
class Part:
    """One row of the table.

    Attributes:
        shape: of the output for one image: channels, height, width.
        macs: multiply-accumulates for one image.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    macs: int

    @property
    def gmac(self) -> float:
        """10^9 multiply-accumulates; a GMAC is 2 GFLOP."""
        return self.macs / 1e9


@dataclass(frozen=True)
class Cost:
    """The parts of a model in the order of computation, for one image of a size."""

    parts: tuple[Part, ...]

    @property
    def parameters(self) -> int:
        """All parameters of the model."""
        return sum(part.parameters for part in self.parts)

    @property
    def macs(self) -> int:
        """All multiply-accumulates for one image."""
        return sum(part.macs for part in self.parts)

    @property
    def gmac(self) -> float:
        """As `Part.gmac`."""
        return self.macs / 1e9


def meta_model(settings: ModelConfig, num_classes: int) -> Segmenter:
    """The network on the meta device, in evaluation mode: its tensors have shapes and no values."""
    with torch.device("meta"):
        model = Segmenter(settings, num_classes=num_classes, encoder_weights="none", weights="random")
    return model.to("meta").eval()


def describe_cost(model: Segmenter, height: int, width: int) -> Cost:
    """Cost of one image of (height, width), by encoder level, lateral, smoothing, branch and classifier.

    Computed on a copy on the meta device, without arithmetic.
    """
    from torch.utils.flop_counter import FlopCounterMode  # imports triton, which prediction can do without

    twin = deepcopy(model).to("meta").eval()
    image = torch.empty(1, model.settings.in_channels, height, width, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        maps = twin.encoder_maps(image)
        logits = twin.classifier(twin.decoder(maps))
        if twin.head is not None:
            twin.classify(maps)
    flops = counter.get_flop_counts()  # by module, its children included; outermost modules are named by their class

    def macs(name: str) -> int:
        return int(sum(flops.get(name, {}).values()) // 2)

    parts = _encoder_parts(twin.encoder, maps, macs)
    settings, pyramid = model.settings, twin.decoder.pyramid
    for kind, path, modules, channels in (
        ("lateral", "FPNDecoder.pyramid.lateral", pyramid.lateral, settings.pyramid_channels),
        ("smoothing", "FPNDecoder.pyramid.smoothing", pyramid.smoothing, settings.pyramid_channels),
        ("semantic branch", "FPNDecoder.branches", twin.decoder.branches, settings.segmentation_channels),
    ):
        for index, (stride, module) in enumerate(zip(twin.encoder.strides, modules, strict=True)):
            if not isinstance(module, nn.Identity):
                size = maps[0 if kind == "semantic branch" else index].shape[2:]
                part = Part(f"{kind}, stride {stride}", (channels, *size), _parameters(module), macs(f"{path}.{index}"))
                parts.append(part)
    parts.append(Part("classifier", tuple(logits.shape[1:]), _parameters(twin.classifier), macs("Conv2d")))
    if twin.head is not None:
        parts.append(Part("image-level head", (logits.shape[1],), _parameters(twin.head), macs("Linear")))
    return Cost(tuple(parts))


def _encoder_parts(encoder: Encoder, maps: list[Tensor], macs: Callable[[str], int]) -> list[Part]:
    """One row per level with the layers behind the previous level; a single row if timm does not name them."""
    part_of, parameters, own_macs = part_finder(encoder), [0] * len(maps), [0] * len(maps)
    for name, module in encoder.network.named_modules():
        level = max(0, part_of(name) - 1)  # the stem is part of the first
        path = f"Encoder.network.{name}".rstrip(".")
        own_macs[level] += macs(path) - sum(macs(f"{path}.{child}") for child, _ in module.named_children())
        parameters[level] += sum(parameter.numel() for parameter in module.parameters(recurse=False))
    if not all(own_macs):
        return [Part("encoder", tuple(maps[-1].shape[1:]), sum(parameters), sum(own_macs))]
    rows = zip(encoder.strides, maps, parameters, own_macs, strict=True)
    return [Part(f"encoder, stride {stride}", tuple(level.shape[1:]), *counts) for stride, level, *counts in rows]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
