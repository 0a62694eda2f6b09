"""Small pieces of text that messages, tables and files share."""

import base64
import csv
import io
import sys
import unicodedata
from collections.abc import Iterable
from typing import TextIO

_LAYOUT = "\n\t"
_HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line and paragraph separators
_REORDERING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_FORMULA = ("=", "+", "-", "@", "\t")


def first_few(items: Iterable[object], *, limit: int = 4, total: int | None = None) -> str:
    """The first items of a list: `a, b, c, d and 3 more`; `none` if the list is empty.

    Args:
        total: length of the list, if `items` are only its beginning.
    """
    texts = [str(item) for item in items]
    left = (len(texts) if total is None else total) - len(texts[:limit])
    return (", ".join(texts[:limit]) or "none") + (f" and {left} more" if left > 0 else "")


def first_line(error: BaseException, *, max_chars: int = 200) -> str:
    """The first line of an exception's message, cut with an ellipsis; the exception's type if it has no message."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= max_chars else f"{line[: max_chars - 1]}…"


def is_printable(text: str) -> bool:
    """Whether a text shows as it is on a terminal: no control or reordering characters, no bytes that are not UTF-8."""
    return not any(unicodedata.category(character) in _HIDDEN or character in _REORDERING for character in text)


def printable(text: str, *, encoding: str = "utf-8") -> str:
    r"""A text with escapes such as `\x1b` for what a terminal would obey, or what an encoding does not have.

    Names of files, classes and tensors come from others; `\x1b[2J` in one of them would clear the screen. Line breaks
    and tabs stay.
    """
    if not text.isprintable():
        text = "".join(
            character
            if character in _LAYOUT or is_printable(character)
            else character.encode("unicode_escape", "surrogatepass").decode("ascii")
            for character in text
        )
    return text.encode(encoding, "backslashreplace").decode(encoding)


def show(text: object = "", *, file: TextIO | None = None, end: str = "\n") -> None:
    """Print a text, made `printable`, to standard output or another stream: all that the console gets passes here."""
    stream = sys.stdout if file is None else file
    if stream is not None:  # closed by the parent process
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(printable(str(text), encoding=encoding), file=stream, end=end, flush=True)


def base64_text(content: bytes) -> str:
    """Bytes as base64, for JSON and data URIs."""
    return base64.b64encode(content).decode()


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV; None and NaN become empty cells.

    Text that spreadsheets would run as a formula gets an apostrophe before it; numbers stay as they are.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(["" if value is None or value != value else _cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    value = printable(value)
    if not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
