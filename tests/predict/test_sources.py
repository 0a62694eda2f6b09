from pathlib import Path

import pytest
from PIL import Image

from pyramidseg.base.errors import DataError
from pyramidseg.predict.sources import images_of
from pyramidseg.predict.video_sources import find_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "deep/down/c.png", "deep/d.tif"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def stems(*sources, outside="out"):
    return [source.stem for source in find_sources(sources, save=("mask",), outside=outside, skipped=[])[0]]


def test_a_folder_is_mirrored(folder):
    assert sorted(stems(folder)) == ["a", "b", "deep/d", "deep/down/c"]


def test_stem_of_a_file_is_its_name(folder):
    assert stems(str(folder / "deep" / "down" / "c.png")) == ["c"]


def test_a_pattern_is_mirrored_below_its_fixed_part(folder):
    assert stems(f"{folder}/*.png") == ["b"]
    assert stems(f"{folder}/deep/**/*.png") == ["down/c"]
    assert stems(f"{folder}/de*/*.tif") == ["deep/d"]


def test_folders_that_a_pattern_matches_are_searched(folder):
    assert sorted(stems(f"{folder}/d*")) == ["deep/d", "deep/down/c"]


def test_an_existing_file_is_not_taken_as_a_pattern(folder):
    (folder / "b.png").rename(folder / "b[1].png")
    assert stems(folder / "b[1].png") == ["b[1]"]


def test_every_image_is_listed_once(folder):
    assert sorted(stems(folder, folder / "a.jpg", f"{folder}/*.jpg")) == ["a", "b", "deep/d", "deep/down/c"]


def test_dots_in_a_name_are_kept(folder):
    (folder / "b.png").rename(folder / "b.v2.png")
    assert "b.v2" in stems(folder)


def test_an_output_folder_within_a_source_is_left_out(folder):
    out = folder / "deep"
    assert stems(folder, outside=out) == ["a", "b"]
    assert stems(f"{folder}/**/*.png", outside=out) == ["b"]


def test_a_file_named_explicitly_is_used_even_from_the_output_folder(folder):
    out = folder / "deep"
    assert stems(out / "d.tif", outside=out) == ["d"]
    assert sorted(stems(out, outside=out)) == ["d", "down/c"]


def test_relative_paths_are_accepted(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert sorted(stems("images")) == ["a", "b", "deep/d", "deep/down/c"]
    assert stems("images/*.jpg") == ["a"]


@pytest.mark.parametrize(
    ("source", "message"),
    [("nowhere", "no such file or folder"), ("*.gif", "no file matches"), ("empty", "no images in this folder")],
)
def test_a_source_that_matches_nothing_is_refused(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        stems(source)


def test_no_source_at_all_is_refused():
    with pytest.raises(DataError, match="no images given"):
        stems()


def test_files_of_unread_types_are_listed_and_sidecars_are_not(tmp_path: Path) -> None:
    for name in (
        "a.png",
        "b.mp4",
        "sub/c.DCM",
        "sub/d.npy",
        "a.json",
        "a.txt",
        "a.xml",
        "Thumbs.db",
        "a.png.aux.xml",
        ".d.mp4",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    skipped: list[Path] = []
    assert [source.stem for source in images_of(str(tmp_path), outside="out", skipped=skipped)] == ["a"]
    assert skipped == [tmp_path / "b.mp4", tmp_path / "sub/c.DCM", tmp_path / "sub/d.npy"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"types that are not read: 1 \.dcm, 1 \.mp4, 1 \.npy"):
        list(images_of(str(tmp_path), outside="out", skipped=[]))


def test_an_empty_name_is_not_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match="an empty name stands for no image"):
        stems("")
    assert sorted(stems(".")) == ["a", "b", "deep/d", "deep/down/c"]
