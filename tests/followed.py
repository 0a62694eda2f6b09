"""Advice of messages, extracted from their text and followed literally."""

import re
from ast import literal_eval
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyramidseg.base.errors import PyramidSegError
from pyramidseg.cli.main import main
from pyramidseg.data.records import Dataset
from pyramidseg.formats.dataset_statements import reading_config
from pyramidseg.formats.open_dataset import open_dataset

PASTE = re.compile(
    r"paste these lines into (?P<file>.+?\.ya?ml)(?: in place of its (?P<keys>[\w ]+))? and edit them:\n(?P<lines>.*)",
    re.DOTALL,
)
SETTING = re.compile(r"\b(?:data|model|train|optim|loss)\.\w+=(?:\[[^\]]*\]|'[^']*'|[^\s,;)]+)")


def message(call: Callable[[], object]) -> str:
    """The text of the error that a call raises."""
    with pytest.raises(PyramidSegError) as caught:
        call()
    return str(caught.value)


def arguments_in(text: str) -> dict[str, Any]:
    """The arguments with values that a message shows to callers from Python, such as `resume=True`."""
    assert not re.search(r"(?<!\S)--", text), text
    return {name: literal_eval(value) for name, value in re.findall(r"`(\w+)=([^`]+)`", text)}


def alternatives(text: str) -> list[str]:
    """The YAML of each alternative of a proposal, uncommented."""
    match = PASTE.search(text)
    assert match, f"no lines to paste in {text!r}"
    first, *others = re.split(r"^# or .*\n", match["lines"], flags=re.MULTILINE)
    return [first.partition("\n")[2], *(re.sub(r"^# ", "", other, flags=re.MULTILINE) for other in others)]


def paste(text: str, choice: int = 0) -> Path:
    """Paste an alternative into the file that the message names, in place of the keys that it names."""
    match = PASTE.search(text)
    assert match, f"no lines to paste in {text!r}"
    file = Path(match["file"])
    kept = file.read_text() if file.exists() else ""
    for key in (match["keys"] or "").split(" and "):
        kept = re.sub(rf"^{key}:.*\n(?:[ -].*\n)*", "", kept, flags=re.MULTILINE) if key else kept
    file.write_text(f"{kept}{alternatives(text)[choice].rstrip()}\n")
    return file


def settings_in(text: str) -> list[str]:
    """The settings `section.key=value` in a message."""
    return SETTING.findall(text)


def with_settings(source: Path, settings: Sequence[str]) -> Dataset:
    """The dataset, opened with settings as on the command line."""
    return open_dataset(source, reading_config(settings))


def counted(dataset: Dataset) -> dict[str, int]:
    """Pixels by name of the class over all splits; those without a class as `ignored`."""
    labels: Counter[int] = Counter()
    for records in dataset.splits.values():
        for record in records:
            labels.update(dataset.masks.read(record).ravel().tolist())
    names = dataset.classes.names
    return {(names[label] if label < len(names) else "ignored"): labels[label] for label in sorted(labels)}


def sizes(dataset: Dataset) -> dict[str, int]:
    """Images by split."""
    return {split: len(records) for split, records in dataset.splits.items()}


class Terminal:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object, status: int = 0) -> str:
        """Everything that a command prints; it has to end with `status`."""
        self._capsys.readouterr()
        ended = main([str(word) for word in words])
        printed = self._capsys.readouterr()
        text = printed.err + printed.out
        assert ended == status, text
        return text
