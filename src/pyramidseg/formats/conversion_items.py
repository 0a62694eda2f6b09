"""The images of a conversion, and the name that each gets in the output."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.sequences import Mapped
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.dataset_format import RARE_VAL_NAMES, SPLIT_NAMES
from pyramidseg.formats.label_writer import LabelWriter


class Item(NamedTuple):
    """An image of the output: its split, its name there, and its record in the dataset."""

    split: str
    name: str
    record: Record

    @property
    def key(self) -> str:
        """That of its ledger entry."""
        return f"{self.split}/{self.name}"


def conversion_items(dataset: Dataset, writer: LabelWriter) -> Sequence[Item]:
    """The images of a dataset, each made when it is read.

    The name of each is its id without folders named `images`, `img` or like its split. The split is put in front where
    two splits have an image of this name and the format keeps all images together.

    Raises:
        ConfigError: the format has no folders, and without them two images have the same name.
    """
    all_names = {**SPLIT_NAMES, "val": (*SPLIT_NAMES["val"], *RARE_VAL_NAMES)}
    ambiguous: dict[str, set[str]] = {}
    in_several: set[str] = set()

    def short_name(split: str, record: Record) -> str:
        return _without_folders(record.id, ("images", "img", *all_names.get(split, ())))

    def name_in_split(split: str, record: Record) -> str:
        short = short_name(split, record)
        name = record.id if short in ambiguous[split] else short
        return name.replace("/", "_") if writer.is_flat else name

    def item(place: int) -> Item:
        split, first = next((split, first) for split, first in starts.items() if place >= first)
        record = dataset.splits[split][place - first]
        name = name_in_split(split, record)
        return Item(split, f"{split}/{name}" if name in in_several else name, record)

    for split, records in dataset.splits.items():
        ambiguous[split] = _repeated(Mapped(partial(short_name, split), records))
        if writer.is_flat and (several := _repeated(Mapped(partial(name_in_split, split), records))):
            raise ConfigError(f"{min(several)}: two images would have this name without folders; rename one of them")
    ends = [*accumulate(map(len, dataset.splits.values()), initial=0)]
    starts = dict(reversed([*zip(dataset.splits, ends, strict=False)]))
    items = Mapped(item, range(ends[-1]))
    if "{split}" not in writer.image_path:
        in_several.update(_repeated(Mapped(lambda it: it.name, items)))
    return items


def _repeated(names: Iterable[str]) -> set[str]:
    """The names that occur more than once. They are iterated over twice, as a set of all would take 100 bytes each."""
    hashes = np.sort(np.fromiter(map(hash, names), np.int64))
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    counts = Counter(name for name in names if hash(name) in suspects) if suspects else Counter[str]()
    return {name for name, count in counts.items() if count > 1}


def _without_folders(id: str, names: Collection[str]) -> str:
    *folders, last = id.split("/")
    return "/".join((*(folder for folder in folders if folder.lower() not in names), last))
