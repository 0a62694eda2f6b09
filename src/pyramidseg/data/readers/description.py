"""The dataset file that opens a dataset again as it was opened: everything that was said, and all that was inferred."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyramidseg.config import LabelConfig
from pyramidseg.data.masks.colors import ColorValues
from pyramidseg.data.masks.index import IndexValues
from pyramidseg.data.readers.class_map import Labels
from pyramidseg.data.readers.yaml_file import ClassEntry, SplitEntry


def describe(
    root: Path,
    format: str | None,
    splits: Mapping[str, SplitEntry],
    labels: Labels | None,
    config: LabelConfig,
    *,
    classes: tuple[ClassEntry, ...] | None = None,
) -> dict[str, Any]:
    """The content of a `DatasetFile`, in plain lists and numbers. Classes say which values they are made of.

    Args:
        format: None where every split names its own folders.
        labels: None where nothing is known of them.
        classes: as they were said; a colour that palettes are compared with stays one.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True)
    own = {entry.name for entry in classes or () if entry.color is not None and not entry.merged}
    return {
        "path": str(root.resolve()),
        **({"format": format} if format else {}),
        **{split: entry.model_dump(exclude_none=True) for split, entry in splits.items()},
        **({"classes": _classes(labels, config, own)} if labels else {}),
        **settings,
    }


def _classes(labels: Labels, config: LabelConfig, own: set[str]) -> list[dict[str, Any]]:
    colored = isinstance(labels.masks.values, ColorValues)
    origins: dict[int, list[int | str]] = {}
    for value, index in labels.masks.ids:
        origins.setdefault(index, []).append(f"#{value:06x}" if colored else value)
    content: list[dict[str, Any]] = []
    for index, (name, color) in enumerate(zip(labels.classes.names, labels.classes.colors, strict=True)):
        entry: dict[str, Any] = {"name": name, "color": list(color)}
        if config.binary or config.threshold is not None:
            pass  # which say the values
        elif name in own and len(origins[index]) == 1 and isinstance(labels.masks.values, IndexValues):
            entry["value"] = origins[index][0]  # beside `from`, the colour would be for pictures alone
        else:
            entry["from"] = origins[index]
        content.append(entry)
    return content
