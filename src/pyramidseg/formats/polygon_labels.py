"""The labels of formats that outline objects: what no object covers is background, a class like the others."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyramidseg.base.classes import Color
from pyramidseg.base.text import first_few
from pyramidseg.formats.dataset_format import SourceLabel

BACKGROUND = "background"
BACKGROUND_NAMES = (BACKGROUND, "_background_", "__background__")
"""Names, in lower case, of objects that are background too; the second one is LabelMe's."""

IGNORED_NAMES = ("__ignore__",)
"""Names of objects that count nowhere unless the user makes them a class; LabelMe's."""

DRAWN = "what no object covers is background"

_SHOWN = 8


@dataclass(frozen=True)
class DrawnLabels:
    """Labels by value: 0 is background, names follow from 1 on in their order.

    Attributes:
        values: by name; several names may have one value, and names that occur twice are one class.
    """

    labels: tuple[SourceLabel, ...]
    values: Mapping[str, int]

    @classmethod
    def of(cls, names: Iterable[str], *, colors: Mapping[str, Color] | None = None) -> "DrawnLabels":
        """Labels of the names that objects have."""
        labels = [SourceLabel(BACKGROUND, 0)]
        values: dict[str, int] = {}
        for name in names:
            if name in values:
                continue
            if name.lower() in BACKGROUND_NAMES:
                values[name] = 0
                continue
            values[name] = len(labels)
            labels.append(SourceLabel(name, len(labels), (colors or {}).get(name), ignored=name in IGNORED_NAMES))
        return cls(tuple(labels), values)

    @property
    def names(self) -> tuple[str, ...]:
        """By value."""
        return tuple(label.name for label in self.labels)


def merged(lists: Iterable[Iterable[str]], *, what: str) -> tuple[str, ...]:
    """A note on names that a file gives more than once, if there are such.

    Args:
        lists: the names of each file.
        what: they are the names of.
    """
    doubled = [name for names in lists for name, count in Counter(names).items() if count > 1]
    if not doubled:
        return ()
    return (
        f"several {what} are called {first_few(dict.fromkeys(doubled), limit=_SHOWN)}: those of one name are one class",
    )


def alike(names: Iterable[str]) -> tuple[str, ...]:
    """A note on names that differ in upper and lower case only, if there are such."""
    by_folded: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        by_folded.setdefault(name.casefold(), []).append(name)
    twins = [some for some in by_folded.values() if len(some) > 1]
    if not twins:
        return ()
    told = "; ".join(" and ".join(map(repr, some)) for some in twins)
    merged = f"{{name: {twins[0][-1]}, from: [{', '.join(twins[0])}]}}"
    return (
        f"classes whose names differ in upper and lower case only: {told}; if they are one, merge them (classes: "
        f"[..., {merged}])",
    )
