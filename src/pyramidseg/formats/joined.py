"""Several datasets as one: their classes are joined by name.

A class that a set was not labelled for may be anywhere in its class of everything else (`background`, or one that takes
all other values). That one is therefore ignored in the set, unless the set is stated to be complete.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pyramidseg.base.classes import IGNORE, Classes, default_palette
from pyramidseg.base.errors import nearest
from pyramidseg.base.text import first_few
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.pairs import JoinedMasks, ReorderedMasks
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.dataset_statements import Statements
from pyramidseg.formats.dataset_yaml import SourceEntry
from pyramidseg.formats.splitting import overlapping_windows
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousDatasetError, flow

REST = ("background", "other", "others", "rest", "clutter")
"""Names of the class of everything else, without regard to case, blanks and punctuation."""

PROPOSED = Path("joined.yaml")
"""The file for proposed lines where the datasets are named on the command line."""


class _Set(NamedTuple):
    """One of the datasets: joined names of its classes by its own ids, and own ids of its class of everything else."""

    name: str
    entry: SourceEntry
    dataset: Dataset
    names: tuple[str, ...]
    rest: frozenset[int]

    def unknown(self, known: Iterable[str]) -> list[str]:
        """The classes of other sets that its rest may hide."""
        others = [name for name in known if name not in self.names and _plain(name) not in REST]
        return others if self.rest and not self.entry.complete else []

    def labels(self, known: Sequence[str]) -> list[str]:
        """Joined names by own id; empty if ignored."""
        ignored = self.rest if self.unknown(known) else ()
        return ["" if index in ignored else name for index, name in enumerate(self.names)]

    def description(self) -> dict[str, Any]:
        joining = self.entry.model_dump(include={"rename", "share", "complete"}, exclude_defaults=True)
        return {**self.dataset.description, "name": self.name, **joining}

    def notes(self, known: Sequence[str]) -> Iterator[str]:
        yield from (f"{self.name}: {note}" for note in self.dataset.notes)
        more = ""
        if unknown := self.unknown(known):
            hiding = first_few(repr(self.names[index]) for index in self.rest)
            more = f"; {hiding} is ignored, as the set was not labelled for {first_few(map(repr, unknown))}"
            more += ": if its images show none of that, state complete: true"
        yield f"classes of {self.name}: {', '.join(self.names)}{more}"


def join(stated: Statements, datasets: Sequence[Dataset]) -> Dataset:
    """The datasets of `stated.sources` as one; ids begin with the name of their set.

    Raises:
        AmbiguousDatasetError: which classes are the same, or what a background holds, has to be stated.
        ConfigError: classes that do not exist, shares of some sets only, or different bands.
    """
    sets = [_named(stated, *pair) for pair in zip(stated.sources, datasets, strict=True)]
    known = list(dict.fromkeys(name for one in sets for name in one.names))
    labelled = {name for one in sets for name in one.labels(known)} - {""}
    names = [entry.name for entry in stated.classes or ()] or [name for name in known if name in labelled]
    _refuse_contradictions(stated, sets, names, labelled)
    if not stated.classes:
        _ask(stated, sets, names, lost=[name for name in known if name not in labelled])
    classes, ids = _classes(stated, names, sets), {**{name: index for index, name in enumerate(names)}, "": IGNORE}
    tables = {one.name: bytes(ids[name] for name in one.labels(known)).ljust(256, bytes([IGNORE])) for one in sets}
    records: dict[str, list[Record]] = {}
    for one in sets:
        for split, own in one.dataset.splits.items():
            records.setdefault(split, []).extend(replace(record, id=f"{one.name}/{record.id}") for record in own)
    return Dataset(
        source=str(stated.named),
        layout="; ".join([f"{len(sets)} joined datasets", *(f"{one.name}: {one.dataset.layout}" for one in sets)]),
        classes=classes,
        masks=JoinedMasks({one.name: ReorderedMasks(one.dataset.masks, tables[one.name]) for one in sets}),
        splits={split: tuple(some) for split, some in records.items()},
        notes=(*(note for one in sets for note in one.notes(known)), *_overlap(records)),
        bands=sets[0].dataset.bands,
        description={
            "classes": [{"name": name, "color": [*classes.colors[index]]} for index, name in enumerate(names)],
            "sources": [one.description() for one in sets],
        },
        sets={one.name: one.entry.share for one in sets},
    )


def _overlap(records: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """Each set's own split keeps a gap between train and val, but not to the other sets."""
    train, val = (records.get(name, ()) for name in ("train", "val"))
    if number := overlapping_windows(train, val):
        yield (
            f"{number} of {len(train)} training windows show places that validation windows show, too, so that scores "
            "on val are too high: put the scenes into one dataset, or into folders train and val by place"
        )


def _named(stated: Statements, name: str, dataset: Dataset) -> _Set:
    entry, own = stated.sources[name], dataset.classes.names
    names = tuple(entry.rename.get(old, old) for old in own)
    reasons = [f"{old!r} is not a class of it; {nearest(old, own)}" for old in entry.rename if old not in own]
    reasons += [f"two classes would be {new!r}; merge them by from: [...]" for new in names if names.count(new) > 1]
    if reasons:
        raise stated.error(f"{name}: rename: {reasons[0]}")
    other = dataset.masks.rest if isinstance(dataset.masks, ClassMasks) else None
    rest = (index for index, new in enumerate(names) if index == other or _plain(new) in REST)
    return _Set(name, entry, dataset, names, frozenset(rest))


def _refuse_contradictions(stated: Statements, sets: Sequence[_Set], names: Sequence[str], labelled: set[str]) -> None:
    first, reason = sets[0], ""
    if {*names} != labelled:
        surplus, missing = (first_few(sorted(some)) for some in ({*names} - labelled, labelled - {*names}))
        reason = f"classes: no source has labels of: {surplus}; not listed, but labelled: {missing}; make the two agree"
    for one in sets[1:]:
        if one.dataset.bands != first.dataset.bands:
            both = " and ".join(f"{it.dataset.bands or 'all'} of {it.name}" for it in (first, one))
            reason = f"the bands differ: {both}; choose them for all: data.bands=[...]"
        if (one.entry.share is None) != (first.entry.share is None):
            reason = "only some sources have a share; give one to all, or to none"
    if reason:
        raise stated.error(reason)


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold() or name


def _classes(stated: Statements, names: Sequence[str], sets: Sequence[_Set]) -> Classes:
    """Colours as stated, else those of the sets, or of the palette if two classes had the same."""
    given = {entry.name: entry.color for entry in stated.classes or () if entry.color}
    pairs = (pair for one in reversed(sets) for pair in zip(one.names, one.dataset.classes.colors, strict=True))
    colors = tuple(map({**dict(pairs), **given}.__getitem__, names))
    return Classes(tuple(names), colors if len({*colors}) == len(colors) or given else default_palette(len(names)))


def _ask(stated: Statements, sets: Sequence[_Set], names: Sequence[str], *, lost: Sequence[str]) -> None:
    """Refuse what has several readings, with the lines that state each.

    Args:
        lost: classes that are ignored in every set that has them.
    """
    unnamed, alike, apart = (dict[str, dict[str, str]]() for _ in range(3))
    spelled: dict[str, str] = {}
    together = {*sets[0].names}
    for _ in sets:
        together.update(*(one.names for one in sets if together & {*one.names}))
    for one in sets:
        plain = [_plain(name) for name in one.names]
        for old, new, key in zip(one.dataset.classes.names, one.names, plain, strict=True):
            if re.fullmatch(r"class \d+", new) and old not in one.entry.rename:
                unnamed.setdefault(one.name, {})[old] = new
            if spelled.setdefault(key, new) not in one.names and plain.count(key) == 1:
                alike.setdefault(one.name, {})[old] = spelled[key]
        if not together & {*one.names}:
            apart[one.name] = {one.dataset.classes.names[0]: sets[0].names[0]}
    same = {
        it.name: {"foreground": it.name}
        for it in sets
        if "foreground" in {*it.dataset.classes.names} - {*it.entry.rename} and not it.entry.classes
    }
    foregrounds = same if len(same) > 1 else {}
    lines = (
        ("classes have numbers for names, by which nothing can be joined", unnamed, "equal names are one class", (0,)),
        ("the foregrounds of several sets need not be the same", foregrounds, "each is a class of its own", (0, 1)),
        ("classes are named almost as in other sets", alike, "these classes are the same", (0, 1)),
        (f"no class name is shared with {sets[0].name}", apart, "some classes are the same, such as these", (1, 0)),
    )
    verdict, found, meaning, order = next((line for line in lines if line[1]), ("", {}, "", ()))
    more: dict[str, Any] = {
        one.name: {"rename": {**one.entry.rename, **found[one.name]}} for one in sets if one.name in found
    }
    if not found and lost:
        verdict = f"{first_few(map(repr, lost))} would have no label, as it may hide classes of the other sets"
        more = {one.name: {"complete": True} for one in sets if {*lost} & {*one.names}}
        meaning, order = "no class of the other sets is in these images", (0, 1) if len(more) == len(sets) else (1, 0)
    if more:
        all_named = {**_sources(stated, {}), "classes": [*names]}
        readings = (
            Alternative(meaning, _sources(stated, more)),
            Alternative("these are all classes, anything else is ignored", all_named),
        )
        shown = first_few(f"{name} {flow(found.get(name, {}))}".removesuffix(" {}") for name in more)
        detail = f"{verdict}: {shown}" + ("" if stated.file else f" (then train on {PROPOSED})")
        chosen = [readings[place] for place in order]
        raise AmbiguousDatasetError(stated.source, detail, chosen, file=stated.file or PROPOSED)


def _sources(stated: Statements, more: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The sources as they are stated, with more keys for some."""
    given = {
        name: entry.model_dump(mode="json", exclude_unset=True, by_alias=True) for name, entry in stated.sources.items()
    }
    return {"sources": [{**keys, **more.get(name, {})} for name, keys in given.items()]}
