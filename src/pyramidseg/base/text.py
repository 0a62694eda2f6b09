"""Small pieces of text that messages, tables and files share."""

import csv
import io
import math
from collections.abc import Iterable


def first_few(items: Iterable[object], *, limit: int = 4, total: int | None = None) -> str:
    """The first items of a list: `a, b, c, d and 3 more`; `none` if the list is empty.

    Args:
        total: length of the list, if `items` are only its beginning.
    """
    texts = [str(item) for item in items]
    left = (len(texts) if total is None else total) - len(texts[:limit])
    return (", ".join(texts[:limit]) or "none") + (f" and {left} more" if left > 0 else "")


def first_line(error: BaseException, *, max_chars: int = 200) -> str:
    """The first line of an exception's message, or the exception's type if it has no message."""
    line = str(error).strip().partition("\n")[0]
    return line[:max_chars] or type(error).__name__


def none_if_nan(value: float) -> float | None:
    """NaN becomes None, which JSON can hold."""
    return None if math.isnan(value) else value


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV; None and NaN become empty cells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(["" if value is None or value != value else value for value in row] for row in rows)
    return text.getvalue()
