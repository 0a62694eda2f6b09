"""Selection of the feature maps of a timm network that the pyramid uses, and of the image sizes it accepts.

Nothing goes by a network's name. timm's own data say what its maps are (`feature_info`) and whether it is built for one
size (`fixed_input_size`); trial runs on the meta device, which has shapes and no arithmetic, say the rest. What cannot
be used is refused with its reason before any weights are fetched: docs/encoders.md lists what works and what does not.

Legend: B batch, C channels, H W pixels.
"""

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from timm.models import FeatureHookNet, get_pretrained_cfg
from torch import Tensor, nn

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import first_line

ANY_SIZE_SWITCHES: dict[str, bool] = {"dynamic_img_size": True, "strict_img_size": False}
"""How timm's constructors are told to take images of any size; the first that a network knows is used."""

DEFAULT_SIDE_PX = 224
"""Side of the images of a network whose size timm does not state."""


@dataclass(frozen=True)
class Levels:
    """How a network has to be built and fed for the pyramid.

    Attributes:
        indices: positions of the wanted maps among all maps of the network; timm's `out_indices`.
        options: what else timm's constructor has to be told.
        size_multiple: pixels that an image's height and width have to divide by: the coarsest stride, or more where
            the network parts its maps into windows of one size.
    """

    indices: tuple[int, ...]
    options: Mapping[str, bool]
    size_multiple: int


def doubling_strides(finest: int, coarsest: int) -> tuple[int, ...]:
    """`finest`, twice that, and so on up to `coarsest`."""
    strides = [finest]
    while strides[-1] < coarsest:
        strides.append(2 * strides[-1])
    return tuple(strides)


def maps_of(network: nn.Module, image_BCHW: Tensor) -> list[Tensor]:
    """Feature maps of an extractor of timm as (B, C, h, w), whichever order it computes in."""
    maps: list[Tensor] = network(image_BCHW)
    channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
    return [level.permute(0, 3, 1, 2) for level in maps] if channels_last else maps


@cache
def find_levels(name: str, strides: tuple[int, ...]) -> Levels:
    """How to build and feed a network, so that it gives maps at these strides.

    Raises:
        ConfigError: it has no such maps, or takes images of one size only.
    """
    fixed = _is_fixed(name)
    options = _any_size_options(name) if fixed else {}
    positions = _positions(name, strides, options)
    indices = tuple(positions[stride] for stride in strides)
    network = _build(name, "meta", out_indices=indices, **options)
    if isinstance(network, FeatureHookNet) and strides[-1] < max(positions):
        raise ConfigError(
            f"encoder={name} coarsest_stride={strides[-1]}: timm cannot cut this network off, and what lies behind "
            f"that stride would be computed and never trained; set coarsest_stride={max(positions)}"
        )
    multiple = _size_multiple(name, network, strides)
    if fixed and not options and multiple == strides[-1]:
        # It seems to take any size, but the meta device overlooks an index beyond its table.
        network = _build(name, "cpu", out_indices=indices)
        if complaint := _complaint(network, strides, *_strip(name, multiple)):
            raise _size_error(name, complaint)
    return Levels(indices, options, multiple)


def _is_fixed(name: str) -> bool:
    settings = get_pretrained_cfg(name)
    return settings is not None and bool(settings.fixed_input_size)


def _any_size_options(name: str) -> dict[str, bool]:
    known = inspect.signature(type(_build(name, "meta", features_only=False)).__init__).parameters
    return next(({switch: value} for switch, value in ANY_SIZE_SWITCHES.items() if switch in known), {})


def _build(name: str, device: str, *, features_only: bool = True, **options: Any) -> nn.Module:
    """A network for trials, in evaluation mode, without touching the caller's random numbers.

    Raises:
        ConfigError: timm has no feature maps of it.
    """
    try:
        with torch.device(device), torch.random.fork_rng([]):
            network: nn.Module = timm.create_model(name, pretrained=False, features_only=features_only, **options)
    except Exception as error:  # networks of timm raise all kinds: this is the border
        raise ConfigError(
            f"encoder={name}: timm has no feature maps of it ({first_line(error)}); choose another network"
        ) from None
    return network.eval()


def _positions(name: str, strides: Sequence[int], options: Mapping[str, bool]) -> dict[int, int]:
    """Strides of all maps of the network, with timm's numbers of the maps.

    These need not begin at 0: timm holds a place for a map that some networks do not have.
    """
    info: Any = _build(name, "meta", **options).feature_info
    available = [int(stride) for stride in info.reduction()]
    doubling = all(coarse == 2 * fine for fine, coarse in itertools.pairwise(available))
    if not doubling or not set(strides) <= set(available):
        raise ConfigError(
            f"encoder={name}: its feature maps have strides {available}, and the pyramid needs {list(strides)}, "
            "each twice the one before; choose another network, finest_stride or coarsest_stride"
        )
    return dict(zip(available, info.out_indices, strict=True))


def _size_multiple(name: str, network: nn.Module, strides: Sequence[int]) -> int:
    """The smallest number of pixels whose multiples the network takes as height and width.

    Windows divide the size that the network was made for, and so does this number. An image of one multiple finds the
    networks that need a smallest size, a strip of more than twice their own size those that have a largest.
    """
    side = _own_side(name, strides[-1])
    for multiple in (count for count in range(strides[-1], side + 1, strides[-1]) if side % count == 0):
        sizes = (multiple, multiple), _strip(name, multiple)
        complaint = next(filter(None, (_complaint(network, strides, *size) for size in sizes)), None)
        if complaint is None:
            return multiple
    if _complaint(network, strides, side, side) is None:
        raise _size_error(name, complaint or "")
    raise ConfigError(f"encoder={name}: its maps do not fit the pyramid ({complaint}); choose another network")


def _own_side(name: str, coarsest: int) -> int:
    """Pixels of a side of the square images that the network was made for, rounded up to the coarsest stride."""
    settings = get_pretrained_cfg(name)
    stated = max(settings.input_size[1:]) if settings is not None else DEFAULT_SIDE_PX
    return -(-stated // coarsest) * coarsest


def _strip(name: str, multiple: int) -> tuple[int, int]:
    """Height and width of an image of one multiple by an odd number of them, more than twice the network's own."""
    return multiple, (2 * _own_side(name, multiple) // multiple + 1) * multiple


def _size_error(name: str, complaint: str) -> ConfigError:
    side = _own_side(name, 1)
    return ConfigError(
        f"encoder={name}: timm builds it for images of {side}x{side} pixels only ({complaint}), and the pyramid takes "
        "any size; choose another network"
    )


def _complaint(network: nn.Module, strides: Sequence[int], height: int, width: int) -> str | None:
    """Why the network does not do with images of this size; None if it does."""
    image = torch.zeros(1, 3, height, width, device=next(network.parameters()).device)
    try:
        with torch.inference_mode():
            maps = maps_of(network, image)
    except Exception as error:  # whatever a network of timm raises at a size that it does not take
        return f"at {height}x{width} {first_line(error, max_chars=90)}"
    for stride, level in zip(strides, maps, strict=True):
        found, wanted = "x".join(map(str, level.shape[2:])), f"{height // stride}x{width // stride}"
        if found != wanted:
            return f"at {height}x{width} the map of stride {stride} is {found}, not {wanted}"
    return None
