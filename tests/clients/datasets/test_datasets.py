"""Hugging Face `datasets`: what it writes is read with equal pixels, and it reads what we write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("datasets", reason="make test-clients")

import datasets

from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError
from pyramidseg.data.pairs import read_labels, read_pair
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset

pytestmark = pytest.mark.filterwarnings("default")  # of the library

NAMES = ("ground", "Straße, wet", "tree", "car")
SIZES = {"a": (9, 14), "b": (30, 21), "c": (8, 8), "d": (33, 40)}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def labels(name: str) -> NDArray[np.uint8]:
    generator = np.random.default_rng(ord(name))
    values = generator.integers(0, len(NAMES), SIZES[name], np.uint8)
    return np.where(generator.random(SIZES[name]) > 0.9, 255, values).astype(np.uint8)


def pixels(name: str) -> NDArray[np.uint8]:
    return np.random.default_rng(ord(name) + 1).integers(0, 256, (*SIZES[name], 3), np.uint8)


def made(*, mask: Any = None, names: str = "abcd", column: str = "mask") -> "datasets.DatasetDict":
    """Images and masks in train and validation, with names of classes."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            column: mask or datasets.Image(),
            "text": datasets.Value("string"),
            "objects": datasets.List(datasets.ClassLabel(names=[*NAMES])),
        }
    )

    def split(some: str) -> "datasets.Dataset":
        columns = {
            "image": [Image.fromarray(pixels(name)) for name in some],
            column: [labels(name) if mask else Image.fromarray(labels(name)) for name in some],
            "text": [*some],
            "objects": [[0, 1]] * len(some),
        }
        return datasets.Dataset.from_dict(columns, features=features)

    return datasets.DatasetDict({"train": split(names[:-1]), "validation": split(names[-1:])})


def check_equal(root: Path, names: str = "abcd", **settings: object) -> None:
    dataset = open_dataset(root, DataConfig(**settings))
    assert dataset.classes.names == NAMES
    found = [(split, record) for split, records in dataset.splits.items() for record in records]
    assert [split for split, _ in found] == ["train"] * (len(names) - 1) + ["val"]
    for name, (_, record) in zip(names, found, strict=True):
        image, values = read_pair(record, dataset.masks, channels=3)
        np.testing.assert_array_equal(image, pixels(name))
        np.testing.assert_array_equal(values, labels(name))
    assert not [defect for defect in inspect_dataset(root, data=DataConfig(**settings)).defects if defect.file != root]


@pytest.mark.parametrize("layout", ["data/{}-00000-of-00001.parquet", "default/{}/0000.parquet", "{}.parquet"])
@pytest.mark.parametrize("column", ["mask", "label", "semantic_segmentation"])
def test_parquet(layout: str, column: str, tmp_path: Path) -> None:
    for split, content in made(column=column).items():
        (tmp_path / "in" / layout.format(split)).parent.mkdir(parents=True, exist_ok=True)
        content.to_parquet(tmp_path / "in" / layout.format(split))
    check_equal(tmp_path / "in")
    assert len(list((tmp_path / "cache/datasets").iterdir())) == 1
    check_equal(tmp_path / "in")


def test_several_files_of_a_split(tmp_path: Path) -> None:
    content = made()
    for number in range(3):
        content["train"].select([number]).to_parquet(tmp_path / "in" / "data" / f"train-{number:05d}-of-00003.parquet")
    content["validation"].to_parquet(tmp_path / "in" / "data" / "validation-00000-of-00001.parquet")
    check_equal(tmp_path / "in")


def test_files_saved_to_disk(tmp_path: Path) -> None:
    made().save_to_disk(str(tmp_path / "in"))
    check_equal(tmp_path / "in")


def test_masks_that_are_arrays(tmp_path: Path) -> None:
    SIZES.update(e=(8, 8), f=(8, 8))
    made(mask=datasets.Array2D((8, 8), "uint8"), names="cef").save_to_disk(str(tmp_path / "in"))
    check_equal(tmp_path / "in", "cef")


def test_an_image_folder_keeps_its_names(tmp_path: Path) -> None:
    """`save_to_disk` includes the files of an image folder; `to_parquet` writes their paths only."""
    for name in "abc":
        for kind, content in (("images", pixels(name)), ("masks", labels(name))):
            path = tmp_path / "folder/train" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    rows = [{"file_name": f"images/{name}.png", "mask_file_name": f"masks/{name}.png"} for name in "abc"]
    (tmp_path / "folder/train/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    loaded = datasets.load_dataset(str(tmp_path / "folder"))
    loaded.save_to_disk(str(tmp_path / "disk"))
    dataset = open_dataset(tmp_path / "disk", DataConfig(ignore=(255,)))
    found = {record.id: record for records in dataset.splits.values() for record in records}
    assert found.keys() == {"000000_a", "000001_b", "000002_c"}
    np.testing.assert_array_equal(read_labels(found["000001_b"], dataset.masks), labels("b"))
    loaded["train"].to_parquet(tmp_path / "paths" / "train.parquet")
    with pytest.raises(DataError, match=r"the image of row 0 is not in the file, only its path .*save_to_disk"):
        open_dataset(tmp_path / "paths", DataConfig())


def test_two_columns_of_masks_need_the_setting(tmp_path: Path) -> None:
    content = made()["train"]
    both = content.add_column("label", [None] * 3, feature=datasets.Image())
    both.to_parquet(tmp_path / "in" / "train.parquet")
    with pytest.raises(DataError, match=r"several columns could hold the masks.*"):
        open_dataset(tmp_path / "in", DataConfig())
    dataset = open_dataset(tmp_path / "in", DataConfig(mask_column="mask"))
    assert sum(map(len, dataset.splits.values())) == 3


def test_rows_without_masks_are_left_out(tmp_path: Path) -> None:
    content = made()
    rows = [{**row, "mask": None if row["text"] == "b" else row["mask"]} for row in content["train"]]
    datasets.Dataset.from_list(rows, features=content["train"].features).to_parquet(tmp_path / "in" / "train.parquet")
    dataset = open_dataset(tmp_path / "in", DataConfig())
    assert "1 rows of train have no mask and were left out" in dataset.notes
    assert sum(map(len, dataset.splits.values())) == 2


@pytest.mark.parametrize("kept", [0, 4, 100, -4])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_damaged_files_are_refused_in_one_line(kind: str, kept: int, tmp_path: Path) -> None:
    if kind == "parquet":
        made()["train"].to_parquet(tmp_path / "in" / "train.parquet")
    else:
        made()["train"].save_to_disk(str(tmp_path / "in"))
    (file,) = (tmp_path / "in").glob(f"*.{kind}")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match="cannot be read as") as caught:
        open_dataset(tmp_path / "in", DataConfig())
    assert "\n" not in str(caught.value)
    assert not [*(tmp_path / "cache").rglob("*.png")]


def test_load_dataset_reads_what_is_written_with_equal_pixels(tmp_path: Path) -> None:
    made().save_to_disk(str(tmp_path / "in"))
    convert_dataset(tmp_path / "in", to="huggingface", out=tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 3, "validation": 1}
    for name, row in zip("abcd", [*loaded["train"], *loaded["validation"]], strict=True):
        np.testing.assert_array_equal(np.asarray(row["image"]), pixels(name))
        np.testing.assert_array_equal(np.asarray(row["mask"]), labels(name))
    assert json.loads((tmp_path / "out/id2label.json").read_text()) == {str(i): name for i, name in enumerate(NAMES)}
