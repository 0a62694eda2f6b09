"""Rules of source, tests and documentation that no linter checks: module names, and plain words."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from pyramidseg.cli.main import option_names

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
    r"\bgo(es)? on (there|where)\b",
    r"\bnothing is said\b",
    r"\b[Mm]ade (scene|image)",
    r"DESIGN section",
)
"""Phrases of the old prose, for which ordinary English has usual ones."""


@cache
def syntax_trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in MODULES}


@cache
def lines_of_prose() -> list[tuple[Path, int, str]]:
    return [
        (path, number, line)
        for path in PROSE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    ]


def test_no_class_name_occurs_twice() -> None:
    names = Counter(
        node.name for tree in syntax_trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_module_name_occurs_twice() -> None:
    counts = Counter(path.stem for path in MODULES)
    assert {name for name, count in counts.items() if count > 1} <= NAMED_AFTER_A_FORMAT


@pytest.mark.parametrize("idiom", IDIOMS)
def test_everything_is_written_in_plain_words(idiom: str) -> None:
    found = [f"{path}:{number}: {line.strip()}" for path, number, line in lines_of_prose() if re.search(idiom, line)]
    assert not found, "\n".join(found)


PARTS_OF_COMMANDS = {
    "backends/factory.py": "--precision --calibrate",
    "export/web.py": "--headless --disable-gpu --disable-dev-shm-usage --no-first-run --no-proxy-server --no-sandbox "
    "--user-data-dir --remote-debugging-pipe",
    "inspection/inspection_report.py": "--config --out",
    "training/run_folder.py": "--config --out --weights --epochs",
}
"""Options of commands that are put together, for the browser or to be pasted."""

COMMAND = r"(pyramidseg [a-z]+|torchrun|ray start) [^`;,)]*"
"""A command in a message, which is pasted as it is, with its options."""


@cache
def texts_below_the_command_line() -> list[tuple[str, str]]:
    """File and text of each string but docstrings; `{}` stands for a value."""
    found = []
    for path, tree in syntax_trees().items():
        file = path.relative_to(ROOT).as_posix()
        nodes = [] if file.startswith("cli/") else [*ast.walk(tree)]
        within = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
        docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                found.append((file, "".join(map(str, parts))))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | within:
                found.append((file, node.value))
    return found


def test_messages_below_the_command_line_name_no_option_that_python_does_not_have() -> None:
    found = [
        (file, text)
        for file, text in texts_below_the_command_line()
        for option in re.findall(r"(?<![\w}-])--(?:[a-z][a-z-]*|\{)", re.sub(COMMAND, "", text))
        if option not in PARTS_OF_COMMANDS.get(file, "").split()
    ]
    assert not found, "name the argument of the Python function in backticks, which the command line translates"


NOT_ARGUMENTS = {
    "base/overrides.py": {"num_classes"},
    "formats/": {"format", "tolerance"},
    "model/": {"classes", "num_classes", "encoder", "encoder_depth", "encoder_weights"},
    "serve/": {"format", "model"},
}
"""Names of settings, which are written as they are, and of the parameters of requests, by folder."""


def test_arguments_that_messages_name_are_in_backticks() -> None:
    """Or the command line would not print its option."""
    options = option_names()
    found = [
        (file, text)
        for file, text in texts_below_the_command_line()
        for name in re.findall(r"(?<![\w.-])([a-z]\w*)=", re.sub(r"`[^`]*`", "", text))
        if name in options and not any(file.startswith(at) and name in names for at, names in NOT_ARGUMENTS.items())
    ]
    assert not found, "write the argument in backticks"


def test_arguments_that_messages_name_have_an_option() -> None:
    """Or the command line would print the name of the Python argument."""
    named = {
        name for _, text in texts_below_the_command_line() for name in re.findall(r"`([a-z]\w*)(?:=[^`]*)?`", text)
    }
    assert len(named) > 40
    assert named - option_names().keys() == {"ignore", "pretrain"}  # a key of dataset.yaml, and a command
