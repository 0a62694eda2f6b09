import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_backends import Brightness
from pyramidseg.base.errors import DataError, OutputError
from pyramidseg.cli.main import parse
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.video_sources import find_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "deep/b.png", "deep/c d.jpg"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (200, 200, 200)).save(path)
    return tmp_path / "set"


def found(*sources):
    images, _ = find_sources(sources, save=("mask",), outside="out", skipped=[])
    return {source.stem: os.path.abspath(source.location) for source in images}


def test_a_list_next_to_its_images(folder):
    (folder / "list.txt").write_text("a.png\r\n\n./deep/c d.jpg\ndeep/../deep/b.png", encoding="utf-8-sig")
    assert found(folder / "list.txt") == {
        "a": str(folder / "a.png"),
        "deep/c d": str(folder / "deep/c d.jpg"),
        "deep/b": str(folder / "deep/b.png"),
    }


def test_a_list_relative_to_the_current_folder(folder, tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val.txt").write_text("set/a.png\nset/deep/b.png\n")
    monkeypatch.chdir(tmp_path)
    assert list(found("lists/val.txt")) == ["set/a", "set/deep/b"]


def test_a_list_with_two_readings_is_refused(folder, tmp_path, monkeypatch):
    (folder / "list.txt").write_text("a.png\n")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"exists both in the current folder and in .*start in"):
        found("set/list.txt")
    monkeypatch.chdir(folder)  # as the message advises
    assert found("list.txt") == {"a": str(folder / "a.png")}


def test_a_list_with_no_reading_is_refused(folder, tmp_path, monkeypatch):
    (folder / "list.txt").write_text("nowhere.png\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"first path, nowhere\.png, exists neither"):
        found("set/list.txt")


def test_absolute_paths_keep_all_their_folders(folder, tmp_path):
    (tmp_path / "list.txt").write_text(f"{folder / 'a.png'}\n{folder / 'deep/b.png'}\n")
    relative = folder.relative_to(folder.anchor).as_posix()
    assert list(found(tmp_path / "list.txt")) == [f"{relative}/a", f"{relative}/deep/b"]


def test_paths_that_leave_the_folder_of_the_list_never_leave_the_output_folder(folder):
    (folder / "deep" / "list.txt").write_text("../a.png\n")
    (stem,) = found(folder / "deep" / "list.txt")
    assert ".." not in stem and stem.endswith("set/a")


def test_missing_images_of_a_list_are_entries_and_the_others_are_done(folder, tmp_path):
    (folder / "list.txt").write_text("a.png\ngone.png\ndeep\n")
    summary = predict_files(Predictor(Brightness()), [folder / "list.txt"], tmp_path / "out")
    assert [Path(entry["image"]).name for entry in summary.failed] == ["gone.png", "deep"]
    assert (np.asarray(Image.open(tmp_path / "out" / "a.png")) == 1).all()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_column_of_a_csv(folder, delimiter):
    rows = [["id", "path", "label"], ["1", "a.png", "x"], ["2", '"deep/c d.jpg"', "y"], ["3", "", "z"], ["4"]]
    (folder / "images.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    assert list(found(f"{folder}/images.csv:path")) == ["a", "deep/c d"]


def test_a_csv_of_one_column_needs_no_name(folder):
    (folder / "images.csv").write_text("image\na.png\n")
    assert list(found(folder / "images.csv")) == ["a"]


def test_a_csv_of_several_columns_asks_for_one_and_the_advice_works(folder):
    (folder / "images.csv").write_text("path,label\na.png,x\n")
    with pytest.raises(DataError, match=r"which column .*\(path, label\)") as caught:
        found(folder / "images.csv")
    assert list(found(str(caught.value).rpartition(" ")[2])) == ["a"]


@pytest.mark.parametrize(
    ("header", "column", "message"),
    [
        ("path,label", "paht", "did you mean 'path'"),
        ("path,path", "path", "occurs twice"),
        ("", "path", "does not exist"),
    ],
)
def test_a_column_that_is_not_there_once_is_refused(folder, header, column, message):
    (folder / "images.csv").write_text(f"{header}\na.png,b\n")
    with pytest.raises(DataError, match=message):
        found(f"{folder}/images.csv:{column}")


def test_a_column_of_a_missing_csv_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"images\.csv: no such file"):
        found(f"{tmp_path}/images.csv:path")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00", b"\xe4.png\n", b"a\0.\0p\0n\0g\0\n\0"])
def test_an_empty_or_binary_list_is_one_error(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"list\.txt: (names no images|is not UTF-8)"):
        found(tmp_path / "list.txt")


@pytest.mark.parametrize("content", [b"a.png\ndeep/b.png\n", b"a.png\r\ndeep/b.png", b"a.png\0deep/b.png\0"])
def test_paths_on_standard_input(folder, monkeypatch, content):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8"))
    assert list(found("-")) == ["a", "deep/b"]


def test_paths_on_standard_input_may_have_line_breaks_and_bytes_of_any_encoding(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb.png\0\xe4.png\0"), "utf-8"))
    assert list(found("-")) == ["a\nb", "\udce4"]


def test_a_terminal_as_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(DataError, match="nothing is piped"):
        found("-")


def test_standard_input_may_follow_options():
    arguments = parse(["predict", "m.safetensors", "a.png", "--out", "o", "-"])
    assert arguments.sources == ["a.png", "-"]


def test_equal_names_in_two_sources_are_refused(folder, tmp_path):
    (folder / "deep" / "list.txt").write_text("b.png\n")
    with pytest.raises(OutputError, match=r"would both be written to a\.png"):
        predict_files(
            Predictor(Brightness()), [folder, folder / "deep" / "list.txt", _copy(folder, tmp_path)], tmp_path / "o"
        )


def _copy(folder, tmp_path):
    other = tmp_path / "other" / "a.png"
    other.parent.mkdir()
    other.write_bytes((folder / "a.png").read_bytes())
    return other
