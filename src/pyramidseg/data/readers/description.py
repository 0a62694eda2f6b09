"""The dataset file that opens a dataset again as it was opened: everything that was said, and all that was inferred."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyramidseg.config import LabelConfig
from pyramidseg.data.masks.colors import ColorValues
from pyramidseg.data.readers.class_map import Labels
from pyramidseg.data.readers.yaml_file import SplitEntry


def describe(
    root: Path, format: str | None, splits: Mapping[str, SplitEntry], labels: Labels | None, config: LabelConfig
) -> dict[str, Any]:
    """The content of a `DatasetFile`, in plain lists and numbers. Classes say which values they are made of.

    Args:
        format: None where every split names its own folders.
        labels: None where nothing is known of them.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True)
    return {
        "path": str(root.resolve()),
        **({"format": format} if format else {}),
        **{split: entry.model_dump(exclude_none=True) for split, entry in splits.items()},
        **({"classes": _classes(labels, config)} if labels else {}),
        **settings,
    }


def _classes(labels: Labels, config: LabelConfig) -> list[dict[str, Any]]:
    origins: dict[int, list[int | str]] = {}
    for value, index in labels.masks.ids:
        colored = isinstance(labels.masks.values, ColorValues)
        origins.setdefault(index, []).append(f"#{value:06x}" if colored else value)
    by_settings = config.binary or config.threshold is not None
    return [
        {"name": name, "color": list(color), **({} if by_settings else {"from": origins[index]})}
        for index, (name, color) in enumerate(zip(labels.classes.names, labels.classes.colors, strict=True))
    ]
