"""Labels of the formats that outline objects: what no object covers is background, which is a class."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyramidseg.base.classes import Color
from pyramidseg.base.text import first_few
from pyramidseg.formats.dataset_format import SourceLabel
from pyramidseg.formats.yaml_proposal import flow

BACKGROUND = "background"
BACKGROUND_NAMES = (BACKGROUND, "_background_", "__background__")
"""Names, in lower case, of objects that are background as well; the second is LabelMe's."""

IGNORED_NAMES = ("__ignore__",)
"""Names of objects that are ignored unless the user makes them a class; LabelMe's."""

DRAWN = "what no object covers is background"

_SHOWN = 8


@dataclass(frozen=True)
class DrawnLabels:
    """Labels by value: 0 is background, then the names from 1 in their order.

    Attributes:
        values: by name. Background names have the value 0, and a repeated name is one class.
    """

    labels: tuple[SourceLabel, ...]
    values: Mapping[str, int]

    @classmethod
    def of(cls, names: Iterable[str], colors: Mapping[str, Color | None] | None = None) -> "DrawnLabels":
        """Labels of the names of objects, with their colours by name."""
        labels = [SourceLabel(BACKGROUND, 0)]
        values: dict[str, int] = {}
        for name in dict.fromkeys(names):
            if name.lower() in BACKGROUND_NAMES:
                values[name] = 0
            else:
                values[name] = len(labels)
                color = colors.get(name) if colors else None
                labels.append(SourceLabel(name, len(labels), color, ignored=name in IGNORED_NAMES))
        return cls(tuple(labels), values)

    @property
    def names(self) -> tuple[str, ...]:
        """By value."""
        return tuple(label.name for label in self.labels)


def drawn_name(name: str) -> str:
    """`LabelWriter.read_as` of the formats whose classes are `DrawnLabels`."""
    name = name.strip()
    return "" if name in IGNORED_NAMES else BACKGROUND if name.lower() in BACKGROUND_NAMES else name


def repeated_names_note(lists: Iterable[Iterable[str]], *, what: str) -> tuple[str, ...]:
    """A note if a file gives a name more than once.

    Args:
        lists: the names in each file.
        what: plural of what they name.
    """
    repeated = [name for names in lists for name, count in Counter(names).items() if count > 1]
    if not repeated:
        return ()
    return (f"several {what} are called {first_few(dict.fromkeys(repeated), limit=_SHOWN)}: they are one class",)


def similar_names_note(names: Iterable[str]) -> tuple[str, ...]:
    """A note if names differ only in case."""
    by_folded: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        by_folded.setdefault(name.casefold(), []).append(name)
    groups = [group for group in by_folded.values() if len(group) > 1]
    if not groups:
        return ()
    pairs = "; ".join(" and ".join(map(repr, group)) for group in groups)
    merged = flow({"name": groups[0][-1], "from": groups[0]})
    return (
        f"classes whose names differ only in upper and lower case: {pairs}; if they are the same, merge them (classes: "
        f"[..., {merged}])",
    )
