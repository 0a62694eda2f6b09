"""Checks the graph of a `.pt2` file before PyTorch loads it.

`torch.export.load` evaluates texts of the file: symbolic sizes with `sympy.sympify`, guards with `exec`, and names of
operations with `getattr` from the module `torch`, from which `torch.os.system` can be reached. All of it would run code
of whoever wrote the file. Here each such text must consist of the tokens of our own exports: symbols, integers and a
few functions in sizes; sizes of the input and integers in guards; ATen operations and integer arithmetic as operations.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

OPERATION = re.compile(
    r"torch\.ops\.aten\.(?!from_file)\w+(\.\w+)?|torch\.sym_(max|min|not|sum|sqrt|float|int|ite)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|or_|pow|sub)"
)
SIZE_TOKEN = re.compile(
    r"\b(Integer|Add|Mul|Max|Min|Pow|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not"
    r"|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan)\("
    r"|\bSymbol\('[a-z]+\d+'|\b(positive|integer|nonnegative)=True\b|\b[a-z]+\d+\b|\b(True|False|\d+)\b|[-(),\s]"
)
"""Symbols, integers and functions of them."""

GUARD_TOKEN = re.compile(
    r"\bL\['images'\]\.size\(\)\[\d+\]|\b(and|or|not|max|min|True|False|\d+)\b|//|[<>!=]=|[*<>](?![*<>])|[-+%(),\s]"
)
"""Sizes of the input `images`, integers, their comparisons and arithmetic, without powers."""

CONTAINERS = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})
"""Types of the containers of a program's inputs and outputs; others may import modules by name."""

MAX_CHARACTERS = 20_000


class ForbiddenText(ValueError):
    """A text that PyTorch would evaluate and that our exports do not contain."""


def check_program(content: bytes) -> None:
    """Check the JSON of a program, `models/*.json` of a `.pt2` file.

    Raises:
        ForbiddenText: a text that would be evaluated is not one that our exports contain.
        ValueError: not JSON, or nested too deeply.
    """
    try:
        program = json.loads(content)
        for key, value in _items(program):
            if key == "expr_str":
                _check_tokens(value, SIZE_TOKEN, "size")
            elif key == "guards_code":
                for guard in value if isinstance(value, list) else [value]:
                    _check_tokens(guard, GUARD_TOKEN, "guard")
            elif key in ("target", "as_operator") and value is not None and not OPERATION.fullmatch(str(value)):
                raise ForbiddenText(f"the operation {str(value)[:80]!r}")
            elif key in ("in_spec", "out_spec") and value is not None:
                _check_containers(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """All keys of all mappings in a JSON value, with their values."""
    stack = [value]
    while stack:
        found = stack.pop()
        if isinstance(found, dict):
            yield from found.items()
            stack.extend(found.values())
        elif isinstance(found, list):
            stack.extend(found)


def _check_tokens(text: object, token: re.Pattern[str], what: str) -> None:
    """Refuse a text that does not consist of tokens: it can then name nothing else, whatever it means."""
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS or token.sub("", text):
        raise ForbiddenText(f"the {what} {str(text)[:80]!r}")


def _check_containers(spec: object) -> None:
    """Check a serialised pytree, which is JSON in a text."""
    types = {value for key, value in _items(json.loads(str(spec))) if key == "type"}
    if not types <= CONTAINERS:
        raise ForbiddenText(f"containers of type {', '.join(sorted(map(str, types - CONTAINERS)))[:80]}")
