"""Masks that leave more than one reading: what to say so that one of them holds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pyramidseg.data.readers.yaml_file import ClassEntry
from pyramidseg.errors import DataError


class Reading(NamedTuple):
    """One way to read the masks, as a dataset file would say it; a proposal, which only the user can confirm.

    Attributes:
        classes: None where the settings say it all.
        settings: of `LabelConfig`.
    """

    classes: tuple[ClassEntry, ...] | None = None
    settings: Mapping[str, Any] = {}


class UnclearLabels(DataError):
    """Nobody has said what the masks mean, and they do not say it themselves.

    Attributes:
        detail: the message without the dataset's name.
        reading: a possible one.
    """

    def __init__(self, source: str, detail: str, reading: Reading) -> None:
        self.detail, self.reading = detail, reading
        super().__init__(f"{source}: {detail}")
