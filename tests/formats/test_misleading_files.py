"""Messages that name what a file really is: its encoding, a Git LFS pointer, a picture among masks, an unread list."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_files import image, opened, pairs, write
from pyramidseg.annotations.polygons import Location, parse_ring
from pyramidseg.base.defects import DefectError
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import members
from pyramidseg.base.text_files import read_text
from pyramidseg.data.records import Record
from pyramidseg.formats.class_lists import find_class_list
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError
from pyramidseg.images.decode import read_header
from pyramidseg.inspection.inspect_dataset import inspect_dataset

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


ENCODINGS = pytest.mark.parametrize(
    ("encoding", "name"), [("gb18030", "GB18030"), ("utf-16", "UTF-16"), ("cp1252", "Windows-1252")]
)


@ENCODINGS
def test_encoding_of_text_is_named(tmp_path: Path, encoding: str, name: str) -> None:
    text = "stra\u00dfe\n" if encoding == "cp1252" else "\u4f5c\u7269\n"
    file = tmp_path / "classes.txt"
    file.write_bytes(text.encode(encoding))
    with pytest.raises(DefectError, match=name):
        read_text(file)


@ENCODINGS
def test_encoding_of_json_is_named(tmp_path: Path, encoding: str, name: str) -> None:
    text = "stra\u00dfe" if encoding == "cp1252" else "\u4f5c\u7269\u6742\u8349"
    file = tmp_path / "a.json"
    file.write_bytes(json.dumps({"label": text}, ensure_ascii=False).encode(encoding))
    with pytest.raises(DefectError, match=name):
        list(members(file))


def test_encoding_of_json_files_is_named_where_no_dataset_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "a.json").write_bytes(json.dumps({"x": "\u4f5c\u7269"}, ensure_ascii=False).encode("gb18030"))
    with pytest.raises(DataError, match=r"cannot be read as JSON: .*probably GB18030"):
        opened(tmp_path)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_pointers_of_git_lfs_are_called_that(tmp_path: Path, folder: str) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b", "c"], 0, 1)
    (file,) = (tmp_path / folder).glob("b.*")
    file.write_bytes(POINTER)
    (defect,) = (one for one in inspect_dataset(tmp_path).defects if one.kind == "foreign")
    assert defect.file == file
    assert "is a Git LFS pointer" in defect.detail
    assert "git lfs pull" in defect.detail


def test_pointers_for_json_text_and_images(tmp_path: Path) -> None:
    for name, read in (("a.json", lambda file: list(members(file))), ("a.txt", read_text), ("a.jpg", read_header)):
        (tmp_path / name).write_bytes(POINTER)
        with pytest.raises(DefectError, match="is a Git LFS pointer"):
            read(tmp_path / name)


def test_a_list_that_is_nested_too_little_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(DefectError, match=r"not in a list of their own; use one for each polygon"):
        parse_ring(1.5, where=Location(tmp_path / "a.json", "annotation 1"))


class TestOverlay:
    """A mask that is a picture blended with the labels."""

    COLORS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)

    def made(self, root: Path, *, overlay: int) -> Path:
        rng = np.random.default_rng(0)
        (root / "masks").mkdir()
        for number in range(4):
            image(root / "images" / f"{number}.png", height=30, width=30)
            colors = self.COLORS[np.arange(900).reshape(30, 30) % 3]
            if number == overlay:
                colors = (colors // 2 + rng.integers(0, 128, colors.shape)).astype(np.uint8)
            Image.fromarray(colors).save(root / "masks" / f"{number}.png")
        return root

    @pytest.mark.parametrize("overlay", [1, 2, 3])
    def test_the_file_is_named_without_a_class_list(self, tmp_path: Path, overlay: int) -> None:
        root = self.made(tmp_path, overlay=overlay)
        with pytest.raises(
            AmbiguousDatasetError, match=rf"{overlay}\.png contains .* labels blended with one"
        ) as caught:
            opened(root)
        write(root / "dataset.yaml", caught.value.suggestion)
        Image.fromarray(self.COLORS[np.arange(900).reshape(30, 30) % 3]).save(root / "masks" / f"{overlay}.png")
        dataset = opened(root)  # the advice followed: the file replaced, the lines pasted
        labels = [dataset.masks.read(record) for some in dataset.splits.values() for record in some]
        assert np.bincount(np.concatenate(labels).ravel()).tolist() == [1200, 1200, 1200]

    def test_the_file_is_named_with_a_class_list(self, tmp_path: Path) -> None:
        root = self.made(tmp_path, overlay=0)
        write(root / "class_dict.csv", "name,r,g,b\na,0,0,0\nb,255,0,0\nc,0,255,0\n")
        dataset = opened(root)
        with pytest.raises(DataError, match=r"0\.png: .*looks like a picture, or labels blended with one"):
            dataset.masks.read(Record("0", root / "images" / "0.png", root / "masks" / "0.png"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("colormap.csv", "name,r,g,b\nroad,1,2,3\nsky,4,5,6\n"),
        ("class_mapping.csv", "class_name,class_color\nroad,1 2 3\nsky,4 5 6\n"),
    ],
)
def test_class_lists_under_other_names(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path / name, content)
    assert [(label.name, label.color) for label in find_class_list(tmp_path).labels] == [
        ("road", (1, 2, 3)),
        ("sky", (4, 5, 6)),
    ]


@pytest.mark.parametrize("name", ["labels.txt", "classes.json"])
def test_lists_that_are_not_read_are_mentioned(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "0 road")
    assert any(f"{name} may name the classes but is not read" in note for note in find_class_list(tmp_path).notes)


def test_a_list_above_the_dataset_is_mentioned(tmp_path: Path) -> None:
    write(tmp_path / "classes.txt", "a\nb\n")
    (tmp_path / "data").mkdir()
    (note,) = find_class_list(tmp_path / "data").notes
    assert "classes.txt is outside the dataset and not read: copy it into" in note


def test_an_unrecognised_dataset_gets_a_dataset_file_that_opens_it(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image(tmp_path / "fotos" / f"{name}.png")
    pairs(tmp_path / "x", tmp_path / "ziele", ["a", "b", "c"], 0, 1)
    for file in (tmp_path / "x").iterdir():
        file.unlink()
    with pytest.raises(AmbiguousDatasetError, match=r"not recognised as a dataset") as caught:
        opened(tmp_path)
    assert "train: {images: fotos, masks: ziele}" in caught.value.suggestion
    write(tmp_path / "dataset.yaml", caught.value.suggestion)
    dataset = opened(tmp_path)
    assert sum(len(records) for records in dataset.splits.values()) == 3
    assert len(dataset.classes) == 2
