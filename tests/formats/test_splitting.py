import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_files import has_note, ids, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.splitting import by_sequence, with_val_split


def made(names: list[str]) -> Dataset:
    records = [Record(name, Path(f"{name}.jpg")) for name in names]
    return dataset_from_records(train=records, classes=["a", "b"])


def test_validation_split_is_taken_by_name_and_announced(tmp_path: Path) -> None:
    names = [f"{index:03d}" for index in range(20)]
    pairs(tmp_path / "images", tmp_path / "masks", names)
    dataset = opened(tmp_path, val_share=0.25)
    found = ids(dataset)
    assert (len(found["train"]), len(found["val"])) == (15, 5)
    assert sorted(found["train"] + found["val"]) == names
    assert has_note(dataset, "5 of the 20 training images")


def test_split_does_not_depend_on_the_order() -> None:
    names = [str(index) for index in range(50)]
    one, other = (
        open_dataset(made(order), DataConfig()) for order in (names, random.Random(1).sample(names, len(names)))
    )
    assert set(one.splits["val"]) == set(other.splits["val"])


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 9), min_size=2, max_size=12),
    st.floats(0.05, 0.9),
)
def test_sequences_stay_together(sequences: dict[str, int], share: float) -> None:
    names = [f"{sequence}_{frame:04d}" for sequence, count in sequences.items() for frame in range(count)]
    split = with_val_split(made(names), share, group="^[^_]+").splits
    sides = [{record.id.partition("_")[0] for record in split[side]} for side in ("train", "val")]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set(sequences)
    assert all(sides)
    assert len(split["val"]) - max(sequences.values()) < max(1, round(share * len(names)))


def test_first_group_of_the_pattern_names_the_sequence() -> None:
    names = [f"city/{drive}/{frame}" for drive in ("a", "b", "c") for frame in range(4)]
    split = with_val_split(made(names), 0.3, group=r"^city/(\w)/").splits
    assert len({record.id[5] for record in split["val"]}) == 1
    assert len(split["val"]) == 4


def test_pattern_that_does_not_fit_an_image_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.group='\^x' does not match the image 'a'"):
        with_val_split(made(["a", "b"]), 0.5, group="^x")


def test_a_csv_file_names_the_sequences(tmp_path: Path) -> None:
    names = [f"{index:02}" for index in range(12)]
    pairs(tmp_path / "images", tmp_path / "masks", names)
    lines = [f"{name}{'.jpg' if int(name) % 2 else ''},street {int(name) // 4}" for name in names]
    file = write(tmp_path / "streets.csv", "\n".join(["image,street", *lines, "99,street 9"]))
    found = ids(opened(tmp_path, group=str(file)))
    assert len(found["val"]) == 4 and len({int(name) // 4 for name in found["val"]}) == 1
    assert by_sequence([Record("s#y0x0", Path("s#y0x0.tif"))], str(write(file, "s.tif,a")), source="").keys() == {"a"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,1", r"b \(0 lines\): every image needs one line with its name and its sequence"),
        ("a,1\nb,1\nb.jpg,2", r"b \(2 lines\): every image"),
        ("a,1,x\nb,", r"g\.csv: a,1,x, b,: every image needs one line"),
        (None, r"data\.group=.*g\.csv: no such file; it is relative to the current folder"),
    ],
)
def test_images_that_a_csv_file_does_not_list_once_are_named(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "g.csv"
    if text is not None:
        write(file, text)
    with pytest.raises(DataError, match=said):
        with_val_split(made(["a", "b"]), 0.5, group=str(file))


@pytest.mark.parametrize(("group", "what"), [(None, "image"), ("^a", "sequence")])
def test_one_image_or_sequence_cannot_be_split(group: str | None, what: str) -> None:
    names = ["a"] if group is None else ["a1", "a2"]
    with pytest.raises(DataError, match=f"a single {what} cannot be split"):
        with_val_split(made(names), 0.5, group=group)


@pytest.mark.parametrize("setting", [{"val_share": 0.3}, {"group": "^a"}])
def test_settings_of_a_split_that_is_there_already_are_refused(tmp_path: Path, setting: dict[str, object]) -> None:
    for split in ("train", "val"):
        pairs(tmp_path / split / "images", tmp_path / split / "masks", ["a"])
    with pytest.raises(ConfigError, match=rf"{next(iter(setting))}=.*already has a val split \(1 images\)"):
        opened(tmp_path, **setting)


def test_share_of_the_file_is_used_unless_set(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", [str(index) for index in range(10)])
    file = write(tmp_path / "d.yaml", "classes: [x, y]\nval_share: 0.5")
    assert len(opened(file).split("val")) == 5
    assert len(opened(file, val_share=0.1).split("val")) == 1
