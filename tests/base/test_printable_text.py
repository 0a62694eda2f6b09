"""Text of others reaches terminals and tables without effect."""

import io
import logging

import pytest

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError
from pyramidseg.base.log import configure_logging
from pyramidseg.base.text import csv_text, first_line, printable, show
from pyramidseg.cli.main import main


def test_a_first_line_that_is_cut_ends_with_an_ellipsis() -> None:
    assert first_line(OSError("12345\nmore"), max_chars=5) == "12345"
    assert first_line(OSError("123456"), max_chars=5) == "1234…"
    assert first_line(OSError("\n")) == "OSError"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u00e9 \u65e5\u672c.png", "plain \u00e9 \u65e5\u672c.png"),
        ("a\n\tb", "a\n\tb"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\x9b2Jb\x7f\r", "a\\x9b2Jb\\x7f\\r"),
        ("a\u202egnp.exe", "a\\u202egnp.exe"),
        ("\u0645\u06cc\u200c\u0634", "\u0645\u06cc\u200c\u0634"),  # Persian needs the joiner
        ("a\u2028b", "a\\u2028b"),
        ("caf\udce9.png", "caf\\udce9.png"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "\\xe9 \\u65e5\n"), ("latin-1", "\u00e9 \\u65e5\n"), ("utf-8", "\u00e9 \u65e5\n")]
)
def test_terminals_of_any_encoding_show_every_name(encoding: str, shown: str) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    show("\u00e9 \u65e5", file=terminal)
    assert terminal.buffer.getvalue().decode(encoding) == shown  # type: ignore[attr-defined]


def test_messages_and_errors_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("pyramidseg")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    try:
        assert main(["predict", "absent.safetensors\x1b]0;title\x07", "x\udcff.png", "--out", "o"]) == 2
        configure_logging(progress=False)
        logger.info("read \x1b[31mred.png")
    finally:
        logger.handlers[:], logger.level, logger.propagate = handlers, level, propagate
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert "absent.safetensors\\x1b]0;title\\x07" in shown
    assert "read \\x1b[31mred.png" in shown


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "\u202eb", "a\udcff", "\x00"])
def test_class_names_with_control_characters_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="has control characters") as refusal:
        Classes.from_names(["road", name])
    assert printable(str(refusal.value)) == str(refusal.value)


def test_cells_that_begin_a_formula_are_text_and_numbers_stay_numbers() -> None:
    row = ["=1+2", "+cmd", "-a", "@SUM(A1)", "\tx", "-1.5", "+3", -2, 0.5, "a=b"]
    assert csv_text([row]) == "'=1+2,'+cmd,'-a,'@SUM(A1),'\tx,-1.5,+3,-2,0.5,a=b\n"
    assert csv_text([["\r=1", "\x1b[2J", "a\udcff"]]) == "\\r=1,\\x1b[2J,a\\udcff\n"
