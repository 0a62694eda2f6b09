import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.base import json_stream as json_files
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.json_stream import JsonSlices, Member, members, parse_again

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def flat(content: dict[str, Any]) -> list[tuple[str, Any]]:
    """What `members` gives of an object."""
    found: list[tuple[str, Any]] = []
    for key, value in content.items():
        found += [(key, element) for element in value] if isinstance(value, list) and value else [(key, value)]
    return found


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json")


@pytest.mark.parametrize("chunk", [1, 3, 7, 2**20])
@pytest.mark.parametrize(("ascii_only", "indent"), [(True, None), (False, 2)])
def test_members_are_those_of_the_standard_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, ascii_only: bool, indent: int | None
) -> None:
    """However the file falls into chunks: a number that is cut in two must not become another one."""
    monkeypatch.setattr(json_files, "_CHUNK", chunk)
    file = tmp_path / "a.json"

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.dictionaries(st.text(max_size=5), values, max_size=5))
    def check(content: dict[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=ascii_only, indent=indent)
        raw = written(file, text.encode("utf-8", "surrogatepass")).read_bytes()
        found = list(members(file))
        assert [(member.key, member.value) for member in found] == flat(json.loads(text))
        assert all(json.loads(raw[member.start : member.end]) == member.value for member in found)

    check()


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    file = written(tmp_path / "a.json", b'\xef\xbb\xbf{"a": 1}')
    assert [member.value for member in members(file)] == [1]


@pytest.mark.parametrize("chunk", [5, 64, 90])
@pytest.mark.parametrize("text", ["A" * 500, '\\"' * 200, "\\\\" * 200, "é\\u0041" * 100])
def test_long_string_is_skipped_without_being_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, chunk: int
) -> None:
    monkeypatch.setattr(json_files, "_CHUNK", chunk)
    monkeypatch.setattr(json_files, "MAX_VALUE", 100)
    file = written(tmp_path / "a.json", f'{{"imageData": "{text}", "after": [7]}}')
    found = list(members(file))
    assert [(member.key, member.value) for member in found] == [("imageData", None), ("after", 7)]
    assert file.read_bytes()[found[0].start : found[0].end].decode() == f'"{text}"'


def test_every_truncation_is_found(tmp_path: Path) -> None:
    text = json.dumps({"a": [1, {"b": "c\\"}], "d": None, "e": [], "f": "ü"}, ensure_ascii=False).encode()
    for length in range(len(text)):
        with pytest.raises(DefectError, match="not readable as JSON"):
            list(members(written(tmp_path / "a.json", text[:length])))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file ends too early"),
        ("[1]", "a JSON object is needed"),
        ("null", "a JSON object is needed"),
        ('{"a": 1,}', "a key is missing"),
        ('{"a": [1,]}', "Expecting value"),
        ('{"a" 1}', "':' is missing"),
        ('{"a": 1 "b": 2}', "',' is missing"),
        ('{"a": [{"b": tru}]}', "Expecting value"),
        ("{1: 2}", "a key is missing"),
        ('{"a": 1} {"b": 2}', "something follows the end"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"a": [' + '{"b": ' * 100_000, "nested too deeply"),
        ('{"a": [' + "1" * 5000 + "]}", "a number of too many digits"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "text in UTF-16, and UTF-8 is needed"),
        ('{"a": 1}'.encode("utf-16-be"), "text in UTF-16, and UTF-8 is needed"),
    ],
)
def test_damage_is_reported_with_its_offset(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = written(tmp_path / "a.json", content)
    with pytest.raises(DefectError, match=rf"a\.json: not readable as JSON: .*{message}.* \(byte \d+\)") as caught:
        list(members(file))
    assert caught.value.defect.kind == DefectKind.BAD_ANNOTATION


def test_a_value_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "_CHUNK", 64)
    monkeypatch.setattr(json_files, "MAX_VALUE", 1000)
    file = written(tmp_path / "a.json", '{"a": [[' + "1," * 10_000)
    with pytest.raises(DefectError, match="one value of more than"):
        list(members(file))


def test_missing_file_is_a_defect_of_kind_absent(tmp_path: Path) -> None:
    with pytest.raises(DefectError) as caught:
        list(members(tmp_path / "a.json"))
    assert caught.value.defect.kind == DefectKind.ABSENT


class TestSlices:
    def slices(self, file: Path) -> tuple[JsonSlices, list[Member]]:
        found = list(members(file))
        return JsonSlices.of(file, [member.start for member in found], [member.end for member in found]), found

    def test_values_are_read_again_in_any_order(self, tmp_path: Path) -> None:
        content = {"a": [{"n": "é"}, [1, 2]], "b": 3.5}
        slices, _ = self.slices(written(tmp_path / "a.json", json.dumps(content, ensure_ascii=False)))
        assert [json.loads(value) for value in slices.read([2, 0])] == [3.5, {"n": "é"}]

    def test_changed_file_is_refused(self, tmp_path: Path) -> None:
        slices, _ = self.slices(written(tmp_path / "a.json", '{"a": [1]}'))
        written(tmp_path / "a.json", '{"a": [12]}')
        with pytest.raises(DefectError, match="has changed since the dataset was opened"):
            slices.read([0])

    def test_file_that_changed_unseen_is_refused_too(self, tmp_path: Path) -> None:
        slices, _ = self.slices(written(tmp_path / "a.json", '{"a": [1]}'))
        written(tmp_path / "a.json", '{"a"::[}}')
        os.utime(tmp_path / "a.json", ns=(slices.modified_ns, slices.modified_ns))
        with pytest.raises(DefectError, match=r"has changed|no longer readable as JSON"):
            [parse_again(value, tmp_path / "a.json") for value in slices.read([0])]

    def test_too_much_at_once_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        slices, _ = self.slices(written(tmp_path / "a.json", json.dumps({"a": list(range(100))})))
        monkeypatch.setattr(json_files, "MAX_TOGETHER", 50)
        assert slices.read(range(20)) == [str(number).encode() for number in range(20)]
        with pytest.raises(DefectError, match="of annotations for one image"):
            slices.read(range(100))
