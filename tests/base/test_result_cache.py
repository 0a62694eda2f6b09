import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyramidseg.base.result_cache import ResultCache, digest, file_state, user_cache


class Work(logging.Handler):
    """Counts how often something is computed, and collects the warnings."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self.said: list[str] = []
        self.done = 0
        self.cache = ResultCache(folder)
        logging.getLogger("pyramidseg.base.result_cache").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __call__(self, content: str = "a", what: str = "sum") -> dict[str, Any]:
        def compute() -> dict[str, Any]:
            self.done += 1
            return {"result": [1, 2.5, "ü"]}

        return self.cache.get_or_compute(what, dict[str, Any], content=lambda: content, compute=compute)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """The warnings of `result_cache` reach the `Work` of the test."""
    logger = logging.getLogger("pyramidseg.base.result_cache")
    yield
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def the_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_same_content_is_computed_once(tmp_path: Path) -> None:
    work = Work(tmp_path / "cache")
    assert work() == work() == {"result": [1, 2.5, "ü"]}
    assert (work.done, work.said) == (1, [])


def test_other_content_is_computed_and_takes_the_place_of_the_old(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work("a"), work("b"), work("b"), work("a")
    assert work.done == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_another_version_recomputes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(tmp_path)
    work()
    monkeypatch.setattr("pyramidseg.base.result_cache.__version__", "99")
    work(), work()
    assert work.done == 2


def test_different_things_are_kept_apart(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work(what="one"), work(what="two"), work(what="one"), work(what="two")
    assert work.done == 2


def test_without_a_folder_nothing_is_cached() -> None:
    work = Work(None)
    work(), work()
    assert work.done == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("2.5", "2.6"),
        lambda text: text.replace('"value"', '"worth"'),
        lambda text: json.dumps({**json.loads(text), "value": 7}),
    ],
)
def test_corrupt_entries_are_recomputed_with_a_warning(tmp_path: Path, spoil: Any) -> None:
    work = Work(tmp_path)
    work()
    the_file(tmp_path).write_text(spoil(the_file(tmp_path).read_text()))
    assert work() == {"result": [1, 2.5, "ü"]}
    assert work.done == 2
    assert len(work.said) == 1
    assert str(the_file(tmp_path)) in work.said[0]
    assert "corrupt" in work.said[0]
    work()
    assert work.done == 2


def test_bytes_that_are_no_text_are_damage(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work()
    the_file(tmp_path).write_bytes(b"\xff\xfe\x00")
    work()
    assert (work.done, len(work.said)) == (2, 1)


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    work = Work(tmp_path / "file" / "cache")
    assert work() == {"result": [1, 2.5, "ü"]}
    assert any("cannot write the cache" in line for line in work.said)


def test_variable_moves_the_folder_or_switches_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(tmp_path))
    assert user_cache().folder == tmp_path
    monkeypatch.setenv("PYRAMIDSEG_CACHE", "OFF")
    assert user_cache().folder is None


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".cache/pyramidseg"),
        ("linux", {"XDG_CACHE_HOME": "{home}/xdg"}, "xdg/pyramidseg"),
        ("darwin", {}, "Library/Caches/pyramidseg"),
        ("win32", {"LOCALAPPDATA": "{home}/local"}, "local/pyramidseg/Cache"),
        ("win32", {}, "AppData/Local/pyramidseg/Cache"),
    ],
)
def test_folder_follows_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("PYRAMIDSEG_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert user_cache().folder == tmp_path / expected


def test_state_of_a_file_changes_with_its_size_and_its_time(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    first = file_state(file)
    assert file_state(file) == first
    os.utime(file, ns=(first[2], first[2] + 1))
    second = file_state(file)
    file.write_text("12")
    os.utime(file, ns=(first[2], first[2]))
    assert len({first, second, file_state(file), file_state(tmp_path / "absent")}) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows has no time of the last change to a file's entry")
def test_state_of_a_file_changes_though_size_and_time_are_put_back(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    first = file_state(file)
    while file_state(file)[3] == first[3]:  # clocks of file systems are coarse
        file.write_text("2")
        os.utime(file, ns=(first[2], first[2]))
    assert file_state(file)[:3] == first[:3]


def test_digest_tells_parts_apart() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"]) != digest(["abc"])
    assert digest([1]) != digest(["1"])
