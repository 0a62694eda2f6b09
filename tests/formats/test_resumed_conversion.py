"""Conversions that were killed, and folders that hold one already."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_conversions import SIZES, WITHOUT_MAP, contents, write_source
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import OutputError
from pyramidseg.base.files import file_state
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats import convert_dataset as converting
from pyramidseg.formats.convert_dataset import convert_dataset


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


class Killed(BaseException):
    pass


def leave_unfinished(monkeypatch: pytest.MonkeyPatch, source: Path, **options: Any) -> None:
    """All images are converted, and the files that they share are not written."""
    with monkeypatch.context() as context:
        context.setattr(converting, "_assemble", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            convert_dataset(source, **options)


@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_a_killed_conversion_continues(to: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_dataset(source, to=to, out=tmp_path / "undisturbed")
    written = []

    def read(record, masks):
        if len(written) == 2:
            raise Killed
        written.append(record.id)
        return read_labels(record, masks)

    monkeypatch.setattr(converting, "read_labels", read)
    monkeypatch.setattr(converting, "map_in_processes", map)
    with pytest.raises(Killed):
        convert_dataset(source, to=to, out=tmp_path / "out")
    monkeypatch.undo()
    for folder in [path for path in (tmp_path / "out").rglob("*") if path.is_dir()]:
        (folder / ".b.png.0123abcd.part").mkdir()  # as SIGKILL leaves it
    assert convert_dataset(source, to=to, out=tmp_path / "out").before == 2
    assert not list((tmp_path / "out").rglob("*.part"))
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_one_that_was_killed_at_its_first_label_continues_too(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder has a label, and nothing in the ledger yet."""

    def write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        raise Killed

    monkeypatch.setattr(converting, "write_bytes", write)
    monkeypatch.setattr(converting, "map_in_processes", map)
    with pytest.raises(Killed):
        convert_dataset(source, to="masks", out=tmp_path / "out")
    monkeypatch.undo()
    assert convert_dataset(source, to="masks", out=tmp_path / "out").before == 0
    convert_dataset(source, to="masks", out=tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_changed_mask_is_converted_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_unfinished(monkeypatch, source, to="masks", out=tmp_path / "out")
    Image.fromarray(np.full(SIZES["b"], 3, np.uint8)).save(source / "train" / "masks" / "b.png")
    assert convert_dataset(source, to="masks", out=tmp_path / "out").before == 4
    with Image.open(tmp_path / "out" / "train" / "masks" / "b.png") as mask:
        assert np.unique(mask).tolist() == [3]


def test_other_content_is_not_touched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"out: is not empty \(thesis.txt\), and not an unfinished conversion"):
        convert_dataset(source, to="masks", out=tmp_path / "out")


@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_a_complete_conversion_is_left_as_it_is(to: str, source: Path, tmp_path: Path, caplog) -> None:
    first = convert_dataset(source, to=to, out=tmp_path / "out")
    before = contents(tmp_path / "out")
    states = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    caplog.set_level("INFO")
    again = convert_dataset(source, to=to, out=tmp_path / "out")
    assert (again.images, again.lost, again.before) == (first.images, first.lost, 5)
    assert "out: already complete" in caplog.text
    assert contents(tmp_path / "out") == before
    assert all(path.stat().st_mtime_ns == state for path, state in states.items())


def test_a_complete_conversion_of_something_else_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to="masks", out=tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=r"out: holds a complete conversion of other files, or with other settings"):
        convert_dataset(source, to="coco", out=tmp_path / "out")
    Image.fromarray(np.full(SIZES["b"], 3, np.uint8)).save(source / "train" / "masks" / "b.png")
    with pytest.raises(OutputError, match=r"choose another `out`, or delete the folder"):
        convert_dataset(source, to="masks", out=tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_parts_of_another_version_are_made_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "PARTS_VERSION", 1)
    leave_unfinished(monkeypatch, source, to="coco", out=tmp_path / "out")
    monkeypatch.undo()
    assert convert_dataset(source, to="coco", out=tmp_path / "out").before == 0


@pytest.mark.parametrize("images", ["copy", "link"])
def test_a_changed_image_is_placed_again(
    images: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unfinished(monkeypatch, source, to="masks", out=tmp_path / "out", images=images)
    (image,) = (source / "train" / "images").glob("b.*")
    pixels = np.full((*SIZES["b"], 3), 7, np.uint8)
    image.unlink()  # as programs save files: whole, under another name first
    Image.fromarray(pixels).save(image)
    convert_dataset(source, to="masks", out=tmp_path / "out", images=images)
    assert (tmp_path / "out" / "train" / "images" / image.name).read_bytes() == image.read_bytes()


def test_labels_of_images_that_are_gone_are_not_left_in_a_continued_conversion(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unfinished(monkeypatch, source, to="masks", out=tmp_path / "out")
    for kind in ("images", "masks"):
        (file,) = (source / "train" / kind).glob("b.*")
        file.unlink()
    with pytest.raises(OutputError, match=r"out: has labels of 1 images that the dataset no longer has"):
        convert_dataset(source, to="masks", out=tmp_path / "out")


def test_an_unfinished_conversion_is_continued_with_its_own_settings_only(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unfinished(monkeypatch, source, to="masks", out=tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=r"out: holds an unfinished conversion to another format, or with other"):
        convert_dataset(source, to="coco", out=tmp_path / "out")
    assert contents(tmp_path / "out") == before
    convert_dataset(source, to="masks", out=tmp_path / "out")


def test_a_dataset_without_a_val_split_keeps_its_one_split(source: Path, tmp_path: Path) -> None:
    shutil.rmtree(source / "val")
    assert set(convert_dataset(source, to="masks", out=tmp_path / "out").images) == {"train"}
    stated = convert_dataset(source, to="masks", out=tmp_path / "divided", data=DataConfig(val_share=0.4))
    assert set(stated.images) == {"train", "val"}


def test_the_state_of_an_images_files_is_taken_once_before_it_is_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[tuple[str, str]] = []

    def state(path: Path) -> tuple[str, int, int, int]:
        events.append(("state", path.name))
        return file_state(path)

    def read(record, masks):
        events.append(("read", record.mask.name))
        return read_labels(record, masks)

    monkeypatch.setattr(converting, "file_state", state)
    monkeypatch.setattr(converting, "read_labels", read)
    monkeypatch.setattr(converting, "map_in_processes", map)
    convert_dataset(source, to="coco", out=tmp_path / "out")
    names = [f"{name}.png" for name in ("a", "b", "d", "c", "a")]
    assert events == [event for name in names for event in (("state", name), ("state", name), ("read", name))]
    monkeypatch.undo()
    assert convert_dataset(source, to="coco", out=tmp_path / "out").before == 5
