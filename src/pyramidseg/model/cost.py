"""Cost of a model by part: output shapes, parameters and multiply-accumulates (MACs).

Convolutions and matrix products are counted, as in the papers: each output value of a convolution costs one
multiply-accumulate per weight of its filter. Matrix products are those of fully connected layers and of attention.
Norms, activations and upsampling are not counted; they are a few per cent of the arithmetic.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

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

    height: int
    width: int
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


def describe_cost(model: Segmenter, height: int, width: int) -> Cost:
    """Cost of one image of (height, width), by encoder level, lateral, smoothing, branch and classifier.

    Computed on a copy on the meta device, without arithmetic.
    """
    twin = deepcopy(model).to("meta").eval()
    image = torch.empty(1, model.settings.in_channels, height, width, device="meta")
    with torch.inference_mode(), _traced(twin) as trace:
        maps = twin.encoder_maps(image)
        twin.classifier(twin.decoder(maps))
        if twin.head is not None:
            twin.classify(maps)
    strides = twin.encoder.strides
    parts = _encoder_parts(twin, maps, trace)
    for kind, modules in (
        ("lateral", twin.decoder.pyramid.lateral),
        ("smoothing", twin.decoder.pyramid.smoothing),
        ("semantic branch", twin.decoder.branches),
    ):
        parts += [
            _part(f"{kind}, stride {stride}", module, trace)
            for stride, module in zip(strides, modules, strict=True)
            if not isinstance(module, nn.Identity)
        ]
    parts.append(_part("classifier", twin.classifier, trace))
    if twin.head is not None:
        parts.append(_part("image-level head", twin.head, trace))
    return Cost(height, width, tuple(parts))


Trace = dict[nn.Module, tuple[tuple[int, ...], int]]
"""Output shape for one image and own multiply-accumulates of every module, in the order in which they finished.

The operations of a module's children are not counted as its own.
"""


@contextmanager
def _traced(model: nn.Module) -> Iterator[Trace]:
    trace: Trace = {}
    running: list[nn.Module] = []
    flops: Counter[nn.Module] = Counter()

    def credit() -> None:
        """Add the operations since the last call to the innermost running module."""
        if running:
            flops[running[-1]] += counter.get_total_flops() - flops.total()

    def enter(module: nn.Module, _: object) -> None:
        credit()
        running.append(module)

    def leave(module: nn.Module, _: object, output: object) -> None:
        credit()
        running.pop()
        trace[module] = (tuple(output.shape[1:]) if isinstance(output, Tensor) else (), flops[module] // 2)

    with FlopCounterMode(display=False) as counter, ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        yield trace


def _part(name: str, module: nn.Module, trace: Trace) -> Part:
    macs = sum(trace[inner][1] for inner in module.modules() if inner in trace)
    return Part(name, trace[module][0], sum(parameter.numel() for parameter in module.parameters()), macs)


def _encoder_parts(model: Segmenter, maps: list[Tensor], trace: Trace) -> list[Part]:
    """One row per level with the layers that run after the previous level; a single row if timm does not name them."""
    network = model.encoder.network
    inside = set(network.modules())
    ends = _level_ends(network)
    if len(ends) != len(maps):
        return [Part("encoder", tuple(maps[-1].shape[1:]), _parameters(inside), _macs(inside, trace))]
    levels: list[set[nn.Module]] = [set() for _ in maps]
    position = 0
    for module in trace:
        if module in inside:
            levels[min(position, len(levels) - 1)].add(module)
            position += module in ends
    levels[-1] |= inside.difference(trace)  # modules that are never called can still have parameters
    return [
        Part(f"encoder, stride {stride}", tuple(level.shape[1:]), _parameters(modules), _macs(modules, trace))
        for stride, level, modules in zip(model.encoder.strides, maps, levels, strict=True)
    ]


def _level_ends(network: nn.Module) -> set[nn.Module]:
    """The modules whose outputs are the maps; timm's extractors may rename `stages.0` to `stages_0`."""
    modules = dict(network.named_modules())
    names = network.feature_info.module_name()  # type: ignore[operator, union-attr]
    found = (modules.get(name, modules.get(name.replace(".", "_"))) for name in names)
    return {module for module in found if module is not None}


def _parameters(modules: set[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters(recurse=False))


def _macs(modules: set[nn.Module], trace: Trace) -> int:
    return sum(trace[module][1] for module in modules if module in trace)
