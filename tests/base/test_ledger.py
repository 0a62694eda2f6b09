import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.base.errors import OutputError
from pyramidseg.base.ledger import Ledger


def fill(folder, *keys, fingerprint="1", **more):
    with Ledger.open(folder) as ledger:
        for key in keys:
            ledger.append({"key": key, "fingerprint": fingerprint, **more})


def keys_in(folder, **options):
    with Ledger.open(folder, **options) as ledger:
        return [entry["key"] for entry in ledger.entries()]


def test_entries_are_found_by_a_later_process(tmp_path):
    fill(tmp_path / "ledger", "b.png", "a.png")
    with Ledger.open(tmp_path / "ledger") as ledger:
        assert ledger.find("a.png") == {"key": "a.png", "fingerprint": "1"}
        assert ledger.done("a.png", "1")
        assert not ledger.done("a.png", "2")
        assert not ledger.done("c.png", "1")
        assert ledger.find("c.png") is None


def test_a_ledger_that_is_only_read_creates_nothing(tmp_path):
    with Ledger.open(tmp_path / "ledger") as ledger:
        assert not list(ledger.entries())
    assert not (tmp_path / "ledger").exists()


def test_an_entry_with_an_error_is_not_done(tmp_path):
    fill(tmp_path, "a.png", error="unreadable")
    with Ledger.open(tmp_path) as ledger:
        assert not ledger.done("a.png", "1")
        assert ledger.find("a.png")["error"] == "unreadable"


def test_the_last_entry_counts_within_and_across_files(tmp_path):
    fill(tmp_path, "a.png", "b.png", "a.png", fingerprint="old")
    fill(tmp_path, "a.png", fingerprint="new")
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    with Ledger.open(tmp_path) as ledger:
        assert [(entry["key"], entry["fingerprint"]) for entry in ledger.entries()] == [
            ("a.png", "new"),
            ("b.png", "old"),
        ]
        ledger.append({"key": "b.png", "fingerprint": "newest"})
        assert ledger.done("b.png", "newest")
        assert [entry["fingerprint"] for entry in ledger.entries()] == ["new", "newest"]


def test_entries_are_in_the_order_of_folders(tmp_path):
    fill(tmp_path, "b/z.png", "b.png", "b-1/a.png", "a/b/c.png", "a/b.png")
    assert keys_in(tmp_path) == ["a/b/c.png", "a/b.png", "b/z.png", "b-1/a.png", "b.png"]


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("cut", [1, 2, 30])
def test_an_incomplete_last_line_is_ignored_and_removed_on_request(tmp_path, cut, repair):
    fill(tmp_path, "a.png", "b.png")
    (file,) = tmp_path.glob("*.jsonl")
    content = file.read_bytes()
    file.write_bytes(content[:-cut])
    assert keys_in(tmp_path, repair=repair) == ["a.png"]
    assert file.read_bytes() == (content[: content.index(b"\n") + 1] if repair else content[:-cut])
    fill(tmp_path, "b.png")
    assert keys_in(tmp_path) == ["a.png", "b.png"]


def test_a_file_with_only_a_part_of_a_line_is_emptied(tmp_path):
    (tmp_path / "1.jsonl").write_bytes(b'{"key": "a' + b"x" * 200_000)
    assert keys_in(tmp_path, repair=True) == []
    assert (tmp_path / "1.jsonl").read_bytes() == b""


def test_damaged_lines_are_reported_and_their_items_done_again(tmp_path, caplog):
    fill(tmp_path, "a.png", "b.png", "c.png")
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b"\0" * 20 + b"\n" + b"[]\n" + lines[2])
    assert keys_in(tmp_path) == ["a.png", "c.png"]
    assert "lines that cannot be read: 2" in caplog.text


def test_a_line_damaged_behind_its_key_is_not_done(tmp_path):
    fill(tmp_path, "a.png")
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes().replace(b'"fingerprint"', b'"finger"print'))
    with Ledger.open(tmp_path) as ledger:
        assert not ledger.done("a.png", "1")


@settings(deadline=None)
@given(st.lists(st.text(st.characters(), max_size=8), max_size=30))
def test_any_text_is_a_key(tmp_path_factory, keys):
    folder = tmp_path_factory.mktemp("ledger")
    fill(folder, *keys)
    with Ledger.open(folder) as ledger:
        assert {entry["key"] for entry in ledger.entries()} == set(keys)
        assert all(ledger.done(key, "1") for key in keys)


def test_many_files_are_read_with_few_open_at_a_time(tmp_path):
    for number in range(100):
        fill(tmp_path, f"{number:03}")
    with Ledger.open(tmp_path) as ledger:
        for _ in range(2):
            assert all(ledger.done(f"{number:03}", "1") for number in range(100))
        assert len(ledger._opened) <= 64


def test_processes_append_side_by_side(tmp_path):
    script = (
        "import sys; from pathlib import Path; from pyramidseg.base.ledger import Ledger\n"
        "with Ledger.open(Path(sys.argv[1])) as ledger:\n"
        "    for n in range(200): ledger.append({'key': f'{sys.argv[2]}/{n:03}', 'fingerprint': '1'})"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, tmp_path, str(number)]) for number in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert len(keys_in(tmp_path)) == 600


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_leaves_complete_lines(tmp_path):
    """A limit of the file size stands for the full disk: the write fails half-way."""
    script = (
        "import resource, signal, sys; from pathlib import Path; from pyramidseg.base.ledger import Ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "ledger = Ledger.open(Path(sys.argv[1]))\n"
        "for n in range(100): ledger.append({'key': f'{n:03}', 'fingerprint': '1'})"
    )
    result = subprocess.run([sys.executable, "-B", "-c", script, tmp_path], capture_output=True, text=True)
    assert "OutputError" in result.stderr and "cannot be written" in result.stderr
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"}\n") for line in lines)
    assert [json.loads(line)["key"] for line in lines] == [f"{n:03}" for n in range(len(lines))]
    assert 20 < len(lines) < 30


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "ledger").write_text("a file")
    with Ledger.open(tmp_path / "ledger") as ledger, pytest.raises(OutputError, match="cannot be written"):
        ledger.append({"key": "a", "fingerprint": "1"})


def test_published_parts_are_complete_and_everything_is_published_once(tmp_path, monkeypatch):
    monkeypatch.setattr("pyramidseg.base.ledger._PART_LINES", 3)
    parts = []
    with Ledger.open(tmp_path, publish=lambda path: parts.append(path.read_text().count("\n"))) as ledger:
        for number in range(8):
            ledger.append({"key": str(number), "fingerprint": "1"})
            assert sum(parts) == number // 3 * 3 + (3 if number % 3 == 2 else 0)
    assert parts == [3, 3, 2]
    assert len(keys_in(tmp_path)) == 8
