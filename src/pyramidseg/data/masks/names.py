"""Values in words, where a format gives them names."""

from collections.abc import Iterable, Sequence


def in_names(values: Iterable[int], names: Sequence[str]) -> str:
    """Values by their names: `background, car`; `none` where there are none."""
    return ", ".join(names[value] if value < len(names) else str(value) for value in values) or "none"
