"""The check of every state dict that comes from a file: names, shapes, kinds and values, with all that differ."""

from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pyramidseg.base.errors import WeightsError

MAX_NAMED = 6
"""Up to this number, tensors are named one by one; more are grouped and counted."""


COUNTER = "num_batches_tracked"
"""Last part of the name of batch norm's counters, which no computation uses: older files, and those converted from
TensorFlow, lack them."""


def check_state_dict(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], *, what: str, advice: str = "nothing was loaded"
) -> None:
    """Check names, shapes, kinds (floats or integers) and values of tensors.

    Args:
        what: begins the error message.
        advice: ends it.

    Raises:
        WeightsError: with all tensors that are absent, of another shape or kind, or unknown; or, if there are none,
            all that hold values with which nothing can be computed.
    """
    absent = [name for name in expected if name not in given and not name.endswith(COUNTER)]
    misshapen = [
        f"{name} {_shape(given[name])} instead of {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in given and not _matches(given[name], tensor)
    ]
    unknown = [name for name in given if name not in expected]
    findings = [
        f"{len(names)} {problem}: {grouped(names)}"
        for problem, names in (("absent", absent), ("of another shape", misshapen), ("unknown", unknown))
        if names
    ]
    if findings:
        raise WeightsError(f"{what}: of {len(expected)} tensors {'; '.join(findings)}; {advice}")
    if unusable := [f"{name} {reason}" for name in expected if (reason := _unusable(name, given.get(name)))]:
        raise WeightsError(
            f"{what}: {len(unusable)} tensors hold values that nothing can be computed with: {grouped(unusable)}; "
            "nothing was loaded: take a file from before it was spoilt"
        )


def grouped(names: Iterable[str]) -> str:
    """A few names one by one, many counted by their first two parts: `encoder.layer4 (30)`."""
    names = list(names)
    if len(names) <= MAX_NAMED:
        return ", ".join(names)
    groups = Counter(".".join(name.split(" ")[0].split(".")[:2]) for name in names)
    return ", ".join(f"{group} ({count})" for group, count in groups.items())


def _unusable(name: str, tensor: Tensor | None) -> str:
    """What is wrong with the values of a tensor; empty if nothing is."""
    if tensor is None or not tensor.is_floating_point() or not tensor.numel():
        return ""
    low, high = (float(value) for value in tensor.float().aminmax())  # NaN is the smallest and the largest value
    if not -torch.inf < low <= high < torch.inf:
        return "(NaN or infinite)"
    if low < 0 and name.endswith("running_var"):
        return "(negative variances)"
    return "(deviations of 0 or less)" if low <= 0 and name == "std" else ""


def _matches(given: Tensor, expected: Tensor) -> bool:
    """Equal shapes, and floats where floats are expected; a counter may be stored as a float."""
    integers = not expected.is_floating_point() and given.dtype in _INTEGERS
    return given.shape == expected.shape and (given.is_floating_point() or integers)


_INTEGERS = {torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8}


def _shape(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    kind = "integers" if tensor.dtype in _INTEGERS else str(tensor.dtype).removeprefix("torch.")
    return shape if tensor.is_floating_point() else f"{shape} of {kind}"
