"""Checks the graph of a `.pt2` file before PyTorch loads it.

`torch.export.load` evaluates texts of the file: symbolic sizes with `sympy.sympify`, guards with `exec`, and names of
operations with `getattr` from the module `torch`, from which `torch.os.system` can be reached. All of it would run code
of whoever wrote the file. Here each such text must follow the grammar of our own exports: symbols, integers and a few
functions in sizes; sizes of the input and integers in guards; ATen operations and integer arithmetic as operations.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

OPERATION = re.compile(r"torch\.ops\.aten\.(?!from_file)\w+(\.\w+)?|torch\.sym_(max|min|not|sum|sqrt|float|int|ite)")
ARITHMETIC = frozenset(
    ["add", "and_", "eq", "floordiv", "ge", "getitem", "gt", "le", "lt", "mod", "mul", "ne", "neg", "or_", "pow", "sub"]
)
"""Functions of the module `operator` that graphs may call."""

SIZE_FUNCTIONS = frozenset(
    [
        *("Integer", "Add", "Mul", "Max", "Min", "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv"),
        *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "Equality", "Unequality", "StrictLessThan", "LessThan"),
        *("StrictGreaterThan", "GreaterThan", "And", "Or", "Not", "ModularIndexing"),
    ]
)
SYMBOL = re.compile(r"[a-z]+\d+")
INPUT_SIZE = re.compile(r"L\['images'\]\.size\(\)\[\d+\]")
ASSUMPTIONS = frozenset({"positive", "integer", "nonnegative"})
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
                _check_expression(value, "size", _is_size)
            elif key == "guards_code":
                for guard in value if isinstance(value, list) else [None]:
                    _check_expression(guard, "guard", _is_guard)
            elif key in ("target", "as_operator"):
                _check_operation(value)
            elif key in ("in_spec", "out_spec") and value is not None:
                types = {kind for name, kind in _items(json.loads(str(value))) if name == "type"}  # of a pytree
                if not types <= CONTAINERS:
                    raise ForbiddenText(f"containers of type {', '.join(sorted(map(str, types - CONTAINERS)))[:80]}")
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


def _check_expression(text: object, kind: str, is_allowed: Callable[[ast.expr], bool]) -> None:
    try:
        parsed = ast.parse(text, mode="eval").body if isinstance(text, str) and len(text) <= MAX_CHARACTERS else None
    except (SyntaxError, ValueError, MemoryError):
        parsed = None
    if parsed is None or not is_allowed(parsed):
        raise ForbiddenText(f"the {kind} {str(text)[:80]!r}")


def _check_operation(name: object) -> None:
    if name is None:
        return
    module, _, function = str(name).partition(".")
    if OPERATION.fullmatch(str(name)) or (module == "_operator" and function in ARITHMETIC):
        return
    raise ForbiddenText(f"the operation {str(name)[:80]!r}")


def _is_size(node: ast.expr) -> bool:
    """Whether an expression consists of symbols, integers and `SIZE_FUNCTIONS`."""
    match node:
        case ast.Constant(value=bool() | int()):
            return True
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _is_size(operand)
        case ast.Name(id=name):
            return SYMBOL.fullmatch(name) is not None
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))], keywords=keywords):
            assumed = all(
                keyword.arg in ASSUMPTIONS and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                for keyword in keywords
            )
            return assumed and SYMBOL.fullmatch(name) is not None
        case ast.Call(func=ast.Name(id="Pow"), args=[base, exponent], keywords=[]):
            digits = ast.unparse(exponent).removeprefix("Integer(").removesuffix(")").removeprefix("-")
            return digits in ("1", "2", "3", "4") and _is_size(base)  # others take for ever to evaluate
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return name in SIZE_FUNCTIONS and all(map(_is_size, arguments))
        case _:
            return False


def _is_guard(node: ast.expr) -> bool:
    """Whether an expression compares integers and sizes of the input `images`."""
    match node:
        case ast.Constant(value=bool() | int()):
            return True
        case ast.BoolOp(values=values):
            return all(map(_is_guard, values))
        case ast.Compare(left=left, ops=operators, comparators=others):
            plain = all(
                isinstance(each, ast.Eq | ast.NotEq | ast.Lt | ast.LtE | ast.Gt | ast.GtE) for each in operators
            )
            return plain and all(map(_is_guard, (left, *others)))
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv() | ast.Mod(), right=right):
            return _is_guard(left) and _is_guard(right)
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            return _is_guard(operand)
        case ast.Call(func=ast.Name(id="max" | "min"), args=arguments, keywords=[]):
            return all(map(_is_guard, arguments))
        case _:
            return INPUT_SIZE.fullmatch(ast.unparse(node)) is not None
