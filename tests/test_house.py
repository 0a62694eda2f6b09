"""Rules of source, tests and documentation that no linter checks: module names, and plain words."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
ROOT = TOP / "src" / "pyramidseg"
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.stem not in ("__init__", "__main__"))

PROSE = [
    path
    for folder, endings in {ROOT: "py j2 js html", TOP / "tests": "py js", TOP / "docs": "md py ipynb"}.items()
    for ending in endings.split()
    for path in folder.rglob(f"*.{ending}")
    if path.name != Path(__file__).name
] + [*TOP.glob("*.md")]
"""Files whose words are checked."""

NAMED_AFTER_A_FORMAT: frozenset[str] = frozenset()
"""Basenames of formats, runtimes and importers that may occur twice."""

IDIOMS = (
    r"(?<![Tt]here )\b(is|are) no (?!longer|less|more|worse)[a-z]+",
    r"\b(anew|aloud|seldom|unasked)\b",
    r"(?<!word )\bin words\b(?!\()",
    r"\bcounts? nowhere\b",
    r"\blies?\b(?![.\\])",
    r"\ball is well\b",
    r"\bin work\b(?![}:\])]|\.\w)",
    r"DESIGN section",
)
"""Phrases of the old prose, for which ordinary English has usual ones."""


def test_no_class_name_occurs_twice() -> None:
    names = Counter(
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_module_name_occurs_twice() -> None:
    counts = Counter(path.stem for path in MODULES)
    assert {name for name, count in counts.items() if count > 1} <= NAMED_AFTER_A_FORMAT


@pytest.mark.parametrize("idiom", IDIOMS)
def test_everything_is_written_in_plain_words(idiom: str) -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path in PROSE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(idiom, line)
    ]
    assert not found, "\n".join(found)
