"""Checks that a state dict has the expected tensors, and reports all that differ."""

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from pyramidseg.base.errors import WeightsError

MAX_NAMED = 6
"""Up to this number, tensors are named one by one; more are grouped and counted."""


def check_state_dict(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], *, what: str) -> None:
    """Check names, shapes and kinds (floats or integers) of tensors.

    Args:
        what: begins the error message.

    Raises:
        WeightsError: with all tensors that are absent, of another shape or kind, or unknown.
    """
    absent = [name for name in expected if name not in given]
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
        raise WeightsError(f"{what}: of {len(expected)} tensors {'; '.join(findings)}; nothing was loaded")


def grouped(names: Iterable[str]) -> str:
    """A few names one by one, many counted by their first two parts: `encoder.layer4 (30)`."""
    names = list(names)
    if len(names) <= MAX_NAMED:
        return ", ".join(names)
    groups = Counter(".".join(name.split(" ")[0].split(".")[:2]) for name in names)
    return ", ".join(f"{group} ({count})" for group, count in groups.items())


def _matches(given: Tensor, expected: Tensor) -> bool:
    """Equal shapes, and floats where floats are expected; a counter may be stored as a float."""
    return given.shape == expected.shape and (given.is_floating_point() or not expected.is_floating_point())


def _shape(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return shape if tensor.is_floating_point() else f"{shape} of integers"
