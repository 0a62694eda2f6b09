"""Selection of the feature maps of a timm network that the pyramid uses, and of the image sizes it accepts.

No decision depends on a network's name. timm states which maps a network has (`feature_info`) and whether it is built
for one size (`fixed_input_size`); the rest is found by trial runs on the meta device, which has shapes and no
arithmetic. A network that cannot be used is rejected with the reason before weights are downloaded. docs/encoders.md
lists the networks that work.

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
"""Options of timm's constructors to accept images of any size; the first one that a network has is used."""

DEFAULT_SIDE_PX = 224
"""Side of the images of a network whose size timm does not state."""


@dataclass(frozen=True)
class Levels:
    """How a network is constructed for the pyramid, and the image sizes it accepts.

    Attributes:
        indices: timm's `out_indices` of the maps at the requested strides.
        options: further options for timm's constructor.
        size_multiple: an image's height and width must be multiples of it: the coarsest stride, or more if the
            network divides its maps into windows of a fixed size.
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
    """Feature maps of a timm feature extractor as (B, C, h, w), also of one that is channels last."""
    maps: list[Tensor] = network(image_BCHW)
    channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
    return [level.permute(0, 3, 1, 2) for level in maps] if channels_last else maps


@cache
def find_levels(name: str, strides: tuple[int, ...]) -> Levels:
    """Find the construction and the image sizes with which a network gives maps at these strides.

    Raises:
        ConfigError: it has no such maps, or accepts images of one size only.
    """
    settings = get_pretrained_cfg(name)
    fixed = settings is not None and bool(settings.fixed_input_size)
    options = _any_size_options(name) if fixed else {}
    positions = _positions(name, strides, options)
    indices = tuple(positions[stride] for stride in strides)
    network = _build(name, "meta", out_indices=indices, **options)
    if isinstance(network, FeatureHookNet) and strides[-1] < max(positions):
        raise ConfigError(
            f"encoder={name} coarsest_stride={strides[-1]}: timm cannot truncate this network, so the layers "
            f"behind that stride would be computed but never trained; set coarsest_stride={max(positions)}"
        )
    multiple = _size_multiple(name, network, strides)
    if fixed and not options and multiple == strides[-1]:
        # It seems to accept any size, but the meta device does not detect an index out of range.
        network = _build(name, "cpu", out_indices=indices)
        if complaint := _complaint(network, strides, *_strip(name, multiple)):
            raise _size_error(name, complaint)
    return Levels(indices, options, multiple)


def _any_size_options(name: str) -> dict[str, bool]:
    known = inspect.signature(type(_build(name, "meta", features_only=False)).__init__).parameters
    return next(({switch: value} for switch, value in ANY_SIZE_SWITCHES.items() if switch in known), {})


def _build(name: str, device: str, *, features_only: bool = True, **options: Any) -> nn.Module:
    """Build a network for a trial run, in evaluation mode, without changing the caller's random state.

    Raises:
        ConfigError: timm has no feature maps of it.
    """
    try:
        with torch.device(device), torch.random.fork_rng([]):
            network: nn.Module = timm.create_model(name, pretrained=False, features_only=features_only, **options)
    except Exception as error:  # timm's networks raise many types
        raise ConfigError(
            f"encoder={name}: timm has no feature maps of it ({first_line(error)}); choose another network"
        ) from None
    return network.eval()


def _positions(name: str, strides: Sequence[int], options: Mapping[str, bool]) -> dict[int, int]:
    """Timm's index of each map of the network, by stride. Some networks have no map 0."""
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
    """The smallest number of pixels whose multiples the network accepts as height and width.

    It divides the network's own image size, as windows do. An image of one multiple reveals a minimum size, and a strip
    of more than twice the network's own size a maximum.
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
    """Side of the square images that the network was built for, rounded up to a multiple of the coarsest stride."""
    settings = get_pretrained_cfg(name)
    stated = max(settings.input_size[1:]) if settings is not None else DEFAULT_SIDE_PX
    return -(-stated // coarsest) * coarsest


def _strip(name: str, multiple: int) -> tuple[int, int]:
    """Height and width of an image of one multiple by an odd number of them, more than twice the network's own."""
    return multiple, (2 * _own_side(name, multiple) // multiple + 1) * multiple


def _size_error(name: str, complaint: str) -> ConfigError:
    side = _own_side(name, 1)
    return ConfigError(
        f"encoder={name}: timm builds it for images of {side}x{side} pixels only ({complaint}), but the pyramid needs "
        "any size; choose another network"
    )


def _complaint(network: nn.Module, strides: Sequence[int], height: int, width: int) -> str | None:
    """Why the network does not accept images of this size; None if it does."""
    image = torch.zeros(1, 3, height, width, device=next(network.parameters()).device)
    try:
        with torch.inference_mode():
            maps = maps_of(network, image)
    except Exception as error:  # of many types
        return f"at {height}x{width} {first_line(error, max_chars=90)}"
    for stride, level in zip(strides, maps, strict=True):
        found, wanted = "x".join(map(str, level.shape[2:])), f"{height // stride}x{width // stride}"
        if found != wanted:
            return f"at {height}x{width} the map of stride {stride} is {found}, not {wanted}"
    return None
