"""Lines of YAML that settle how a dataset is read, ready to paste into its dataset file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyramidseg.base.errors import DataError
from pyramidseg.base.text_files import read_yaml
from pyramidseg.formats.dataset_format import SPLIT_NAMES
from pyramidseg.formats.paths import child_folder

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

    def __init__(
        self, source: Path, detail: str, alternatives: Sequence[Alternative], *, file: Path | None = None
    ) -> None:
        self.suggestion, file = proposal_lines(alternatives), file or dataset_file(source)
        own = read_yaml(file) if file.is_file() else None
        doubled = [key for key in alternatives[0].content if key in own] if isinstance(own, dict) else []
        instead = f" in place of its {' and '.join(doubled)}" if doubled else ""
        where = f"to settle it, paste these lines into {file}{instead} and edit them:"
        super().__init__(f"{source}: {detail}; {where}\n{self.suggestion}")


class AmbiguousReadingError(DataError):
    """A format can read its files in several ways; `open_dataset` adds what the user named.

    Attributes:
        detail: the reason, without the dataset's name.
    """

    def __init__(self, detail: str, alternatives: Sequence[Alternative]) -> None:
        super().__init__(detail)
        self.detail, self.alternatives = detail, tuple(alternatives)


class AmbiguousFoldersError(DataError):
    """Several folders could hold the images or the masks.

    Attributes:
        detail: the reason, without the dataset's name.
        choices: folders of images and of masks (or one GeoJSON file for all images).
    """

    def __init__(self, folder: Path, detail: str, choices: Sequence[tuple[Path, Path]]) -> None:
        super().__init__(f"{folder}: {detail}; name the right one in a YAML file (train: {{images: ..., masks: ...}})")
        self.detail, self.choices = detail, tuple(choices)

    def with_proposal(self, source: Path, root: Path) -> AmbiguousDatasetError:
        """The error with YAML lines that name the folders of each choice relative to `root`, the dataset's folder."""

        def entry(images: Path, masks: Path) -> dict[str, str]:
            return {"images": images.relative_to(root).as_posix(), "masks": masks.relative_to(root).as_posix()}

        found: dict[str, dict[str, dict[str, str]]] = {}
        for images, masks in self.choices:
            content = found.setdefault(f"the masks of {images.name} are in {masks.name}", {})
            above = {part.lower() for part in images.relative_to(root).parts[:-1]}
            for split, names in SPLIT_NAMES.items():
                folder, truth = child_folder(images, names), child_folder(masks, names) if masks.is_dir() else masks
                if folder and truth:
                    content[split] = entry(folder, truth)
                elif above.intersection(names):
                    content[split] = entry(images, masks)
            if not content:
                content["train"] = entry(images, masks)
        trainable_first = sorted(found.items(), key=lambda reading: "train" not in reading[1])
        return AmbiguousDatasetError(source, self.detail, [Alternative(*reading) for reading in trainable_first])


def dataset_file(source: Path) -> Path:
    """The dataset file of what the user named: the file itself, or dataset.yaml in the folder."""
    return source / DATASET_YAML if source.is_dir() else source


def proposal_lines(alternatives: Sequence[Alternative]) -> str:
    """Lines of YAML: a comment and the content of each alternative, the first one active, the others commented out."""
    lines: list[str] = []
    for place, alternative in enumerate(alternatives):
        lines.append(f"# {'or ' if place else ''}{alternative.meaning}:")
        lines += [f"# {line}" if place else line for line in yaml_lines(alternative.content)]
    return "\n".join(lines)


def yaml_lines(content: Mapping[str, Any]) -> Iterator[str]:
    """One line for each key, and one for each entry of a list of mappings."""
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{key}:"
            yield from (f"- {flow(entry)}" for entry in value)
        else:
            yield f"{key}: {flow(value)}"


def flow(value: object) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()
