"""Images of val that are also in train, by content."""

from pathlib import Path

import pytest
from PIL import Image

from made_records import dataset, several
from pyramidseg.data.records import Record
from pyramidseg.images.decode import read_header
from pyramidseg.inspection.duplicates import shared_files
from pyramidseg.inspection.training_check import check_dataset


class TestLeak:
    """Images of val that are also in train, by content."""

    def distinct(self, folder: Path, count: int, *, seed: int = 0) -> list[Record]:
        folder.mkdir()
        records = several(folder, count, seed=seed)
        for number, made in enumerate(records):
            height, width = read_header(made.image)[:2]
            Image.new("RGB", (width, height), (20 * number, 100 * seed, 7)).save(made.image)
        return records

    def leak_of(self, train: list[Record], val: list[Record]) -> str:
        return check_dataset(dataset(train, val)).leak

    def test_copies_under_other_names_are_counted_and_named(self, tmp_path: Path) -> None:
        train, val = self.distinct(tmp_path / "train", 4), self.distinct(tmp_path / "val", 3, seed=1)
        assert self.leak_of(train, val) == ""
        val[1].image.write_bytes(train[1].image.read_bytes())
        found = self.leak_of(train, val)
        assert found.startswith("1 of the 3 val images are also in split train: ")
        assert str(val[1].image) in found
        assert str(train[1].image) in found

    def test_the_same_files_in_both_splits(self, tmp_path: Path) -> None:
        train = several(tmp_path, 4)
        assert self.leak_of(train, train[:2]).startswith("2 of the 2 val images are also in split train")

    def test_files_that_differ_in_one_byte_are_different(self, tmp_path: Path) -> None:
        files = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
        content = bytearray(100_000)
        for file in files:
            file.write_bytes(content)
        content[30_000] = 1
        files[1].write_bytes(content)
        assert shared_files(files[:1], files[1:]) == [(files[2], files[0])]

    def test_files_of_one_size_are_not_read_as_a_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = [tmp_path / f"{number}.bmp" for number in range(4)]
        for number, file in enumerate(files):
            file.write_bytes(bytes(50_000) + bytes([number]) + bytes(50_000))
        monkeypatch.setattr("filecmp.cmp", lambda *_, **__: pytest.fail("read"))
        assert shared_files(files[:2], files[2:]) == []

    def test_files_of_other_sizes_are_not_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for number in range(4):
            (tmp_path / f"{number}").write_bytes(bytes(number))
        files = [tmp_path / f"{number}" for number in range(4)]
        monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("opened"))
        assert shared_files(files[:2], files[2:]) == []

    def test_a_link_to_a_file_of_train_is_found(self, tmp_path: Path) -> None:
        train, val = self.distinct(tmp_path / "train", 2), self.distinct(tmp_path / "val", 2, seed=1)
        val[0].image.unlink()
        val[0].image.symlink_to(train[0].image.resolve())
        assert self.leak_of(train, val).startswith("1 of the 2")
