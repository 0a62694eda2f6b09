"""Whether tensors are the expected ones, and the account of all that are not."""

from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from pyramidseg.base.errors import WeightsError

LISTED = 6
"""So many tensors are named one by one; more are grouped and counted."""


def require_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], *, what: str) -> None:
    """Refuse tensors that are not, name by name and shape by shape, the expected ones.

    Args:
        what: begins the error.

    Raises:
        WeightsError: with all that are absent, of another shape or kind, and unknown.
    """
    absent = [name for name in expected if name not in given]
    misshapen = [
        f"{name} {_described(given[name])} for {_described(tensor)}"
        for name, tensor in expected.items()
        if name in given and not _fits(given[name], tensor)
    ]
    unknown = [name for name in given if name not in expected]
    findings = [
        f"{len(names)} {complaint}: {grouped(names)}"
        for complaint, names in (("absent", absent), ("of another shape", misshapen), ("unknown", unknown))
        if names
    ]
    if findings:
        raise WeightsError(f"{what}: of {len(expected)} tensors needed {'; '.join(findings)}; nothing was loaded")


def grouped(names: Iterable[str]) -> str:
    """Names one by one where they are few, else counted by their first two parts: `encoder.layer4 (30)`."""
    names = list(names)
    if len(names) <= LISTED:
        return ", ".join(names)
    groups = Counter(".".join(name.split(" ")[0].split(".")[:2]) for name in names)
    return ", ".join(f"{group} ({count})" for group, count in groups.items())


def _fits(given: Tensor, expected: Tensor) -> bool:
    """Equal shapes, and no integers where weights are needed; a counter may be stored as a float."""
    return given.shape == expected.shape and (given.is_floating_point() or not expected.is_floating_point())


def _described(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return shape if tensor.is_floating_point() else f"{shape} of integers"
