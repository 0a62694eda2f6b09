"""Text files are read within limits, whatever they hold."""

from pathlib import Path

import pytest

from pyramidseg.base.errors import DataError
from pyramidseg.base.text_files import MAX_YAML_BYTES, read_text, read_yaml


def test_a_mark_at_the_beginning_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfx: 1")
    assert read_text(tmp_path / "a.txt") == "x: 1"
    assert read_yaml(tmp_path / "a.txt") == {"x": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "not UTF-8 text"),
        (b"[" * 20_000, "nested too deeply"),
        (b"a: &a [1]\nb: [*a, *a]", "contains an alias"),
        (b"a: [1", "not readable as YAML"),
        (b"#" * (MAX_YAML_BYTES + 1), "larger than 0.5 MB"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(DataError, match=message) as refusal:
        read_yaml(tmp_path / "a.yaml")
    assert "a.yaml" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.txt: does not exist"):
        read_text(tmp_path / "absent.txt")
