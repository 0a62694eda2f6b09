"""Lines of YAML that settle how a dataset is read, ready to paste into its dataset file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyramidseg.base.errors import DataError

DATASET_YAML = "dataset.yaml"
"""Name of the dataset file that is read if a folder contains it."""


@dataclass(frozen=True)
class Alternative:
    """One way to read a dataset.

    Attributes:
        meaning: what is then assumed, as a clause.
        content: keys and values of a dataset file.
    """

    meaning: str
    content: Mapping[str, Any]


class AmbiguousDatasetError(DataError):
    """A dataset has several readings, or none that is certain.

    Attributes:
        suggestion: YAML lines to paste; the first alternative is active and the others are comments.
    """

    def __init__(self, source: Path, detail: str, alternatives: Sequence[Alternative]) -> None:
        self.suggestion = proposal_lines(alternatives)
        where = f"to settle it, paste these lines into {dataset_file(source)} and edit them:"
        super().__init__(f"{source}: {detail}; {where}\n{self.suggestion}")


def dataset_file(source: Path) -> Path:
    """The dataset file of what the user named: the file itself, or dataset.yaml in the folder."""
    return source / DATASET_YAML if source.is_dir() else source


def proposal_lines(alternatives: Sequence[Alternative]) -> str:
    """Lines of YAML: a comment and the content of each alternative, the first one active, the others commented out."""
    lines: list[str] = []
    for place, alternative in enumerate(alternatives):
        lines.append(f"# {'or ' if place else ''}{alternative.meaning}:")
        lines += [f"# {line}" if place else line for line in _lines(alternative.content)]
    return "\n".join(lines)


def _lines(content: Mapping[str, Any]) -> Iterator[str]:
    """One line for each key, and one for each entry of a list of mappings."""
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{key}:"
            yield from (f"- {_flow(entry)}" for entry in value)
        else:
            yield f"{key}: {_flow(value)}"


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()
