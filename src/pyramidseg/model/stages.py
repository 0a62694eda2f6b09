"""Division of an encoder into stem and stages, for freezing and layer-wise learning rates."""

from collections.abc import Callable

from torch import nn

from pyramidseg.model.encoder import Encoder


def count_parts(encoder: Encoder) -> int:
    """The stem, and one part for each map of the pyramid."""
    return 1 + len(encoder.strides)


def part_finder(encoder: Encoder) -> Callable[[str], int]:
    """The part that a module, parameter or buffer of the encoder belongs to, by its name within the encoder.

    Part 0 is the stem: all before the stage that gives the finest map. Part i is the stage that gives the i-th map,
    with what lies between it and the map before.
    """
    network = encoder.network
    modules: list[str] = network.feature_info.module_name()  # type: ignore[operator, union-attr]
    wanted = [_flat(name) for name in modules]
    order = [_flat(name.removeprefix("network.")) for name in encoder.state_dict()]
    ends = [max((place for place, name in enumerate(order) if _within(name, module)), default=-1) for module in wanted]
    begin = next((place for place, name in enumerate(order) if _within(name, wanted[0])), 0)

    def part_of(name: str) -> int:
        flat = _flat(name.removeprefix("network."))
        places = [place for place, known in enumerate(order) if _within(known, flat)]
        if not places:  # without tensors, such as dropout: nothing to freeze
            return len(wanted)
        if places[-1] < begin:
            return 0
        return next((part for part, end in enumerate(ends, start=1) if places[-1] <= end), len(wanted))

    return part_of


def modules_by_part(encoder: Encoder) -> list[tuple[int, nn.Module]]:
    """Every module below the encoder, with its part: that of the last of its tensors.

    So a module that reaches into several parts counts to the last of them, and what has no tensors, such as drop path,
    goes with the block around it.
    """
    part_of = part_finder(encoder)
    return [(part_of(name), module) for name, module in encoder.named_modules() if name]


def _flat(name: str) -> str:
    """Names as timm's feature wrappers write them (`stages_0`) and as its tables do (`stages.0`) are one."""
    return name.removeprefix("model.").replace(".", "_")


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}_")
