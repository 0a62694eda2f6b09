"""Hugging Face image folders, and refused columns; tests/clients/datasets reads real Parquet and Arrow files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_files import has_note, image, mask, opened, pairs, write
from made_hub import made_hub
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError, MissingExtra
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.huggingface import choose_columns
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError, AmbiguousReadingError
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset


def metadata(place: Path, *names: str, column: str = "mask_file_name", ending: str = ".jsonl") -> Path:
    """Images with masks in a folder `masks`, and the file that pairs them."""
    for name in names:
        image(place / f"{name}.jpg")
        mask(place / "masks" / f"{name}.png", 0, 1, 2)
    if ending == ".jsonl":
        rows = [json.dumps({"file_name": f"{name}.jpg", column: f"masks/{name}.png", "text": "é"}) for name in names]
    else:
        rows = [f"text,file_name,{column}", *(f"'a',{name}.jpg,masks/{name}.png" for name in names)]
    return write(place / f"metadata{ending}", "\n".join(rows) + "\n")


def counted(root: Path, **settings: object) -> dict[str, list[int]]:
    """Pixels by class in each split."""
    dataset = opened(root, **settings)
    return {
        split: sum(np.bincount(read_labels(record, dataset.masks).ravel(), minlength=3) for record in records).tolist()
        for split, records in dataset.splits.items()
    }


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
@pytest.mark.parametrize("column", ["mask_file_name", "label_file_name", "annotation_file_name"])
def test_metadata_of_each_split_pairs_files(ending: str, column: str, tmp_path: Path) -> None:
    metadata(tmp_path / "train", "a", "b", column=column, ending=ending)
    metadata(tmp_path / "validation", "c", column=column, ending=ending)
    assert counted(tmp_path) == {"train": [8, 8, 8], "val": [4, 4, 4]}
    assert has_note(opened(tmp_path), f"train/metadata{ending} names the masks ({column})")


def test_metadata_of_all_splits_in_one_file(tmp_path: Path) -> None:
    rows = []
    for split, name in (("train", "a"), ("train", "b"), ("valid", "c"), ("test", "d")):
        image(tmp_path / split / "rgb" / f"{name}.jpg")
        mask(tmp_path / "gt" / f"{name}.png", 0, 1, 2)
        rows.append(json.dumps({"file_name": f"{split}/rgb/{name}.jpg", "mask_file_name": f"gt/{name}.png"}))
    write(tmp_path / "metadata.jsonl", "\n".join(rows))
    assert {split: len(some) for split, some in opened(tmp_path).splits.items()} == {"train": 2, "val": 1, "test": 1}
    assert counted(tmp_path)["train"] == [8, 8, 8]


def test_the_named_mask_is_read_whatever_its_name(tmp_path: Path) -> None:
    metadata(tmp_path / "train", "a", "b")
    mask(tmp_path / "train" / "masks" / "other.png", 2)
    rows = [{"file_name": f"{name}.jpg", "mask_file_name": "masks/other.png"} for name in "ab"]
    write(tmp_path / "train" / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    metadata(tmp_path / "val", "c")
    write(tmp_path / "id2label.json", '{"0": "a", "2": "c", "1": "b"}')
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("a", "b", "c")
    assert np.unique(read_labels(dataset.splits["train"][0], dataset.masks)).tolist() == [2]


def test_id2label_names_values_with_gaps(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "ab", 3, 17)
    write(tmp_path / "id2label.json", json.dumps({"17": "fig", "3": "ground", "4": "void"}))
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("ground", "fig")
    assert np.unique(read_labels(dataset.splits["train"][0], dataset.masks)).tolist() == [0, 1]


@pytest.mark.parametrize("text", ["[]", "{", '{"a": "b"}', '{"0": 1}', '{"-1": "a"}', "[" * 9999])
def test_a_damaged_id2label_is_refused(text: str, tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "ab")
    write(tmp_path / "id2label.json", text)
    with pytest.raises(DataError, match=r"id2label.json: has to be an object with a name for each mask value"):
        opened(tmp_path)


def test_rows_without_a_mask_are_left_out_and_counted(tmp_path: Path) -> None:
    metadata(tmp_path / "train", "a", "b")
    image(tmp_path / "train" / "c.jpg")
    with (tmp_path / "train" / "metadata.jsonl").open("a") as file:
        file.write('{"file_name": "c.jpg", "mask_file_name": null}\n')
    metadata(tmp_path / "val", "d")
    metadata(tmp_path / "test", "e")
    write(tmp_path / "test" / "metadata.jsonl", '{"file_name": "e.jpg", "mask_file_name": null}')
    dataset = opened(tmp_path)
    assert {split: len(some) for split, some in dataset.splits.items()} == {"train": 2, "val": 1}
    assert has_note(dataset, "1 rows of train have no mask and were left out")
    assert has_note(dataset, "the test split has no masks and was left out")


def test_a_test_split_without_a_column_of_masks_is_left_out(tmp_path: Path) -> None:
    """As in competitions, whose test labels are secret."""
    metadata(tmp_path / "train", "a", "b")
    metadata(tmp_path / "val", "c")
    image(tmp_path / "test" / "d.jpg")
    write(tmp_path / "test" / "metadata.jsonl", '{"file_name": "d.jpg"}')
    assert counted(tmp_path) == {"train": [8, 8, 8], "val": [4, 4, 4]}
    assert has_note(opened(tmp_path), "the test split has no masks and was left out")


def test_a_row_may_hold_what_unicode_calls_the_end_of_a_line(tmp_path: Path) -> None:
    metadata(tmp_path / "val", "c")
    file = metadata(tmp_path / "train", "a", "b")
    file.write_text(file.read_text(encoding="utf-8").replace("\u00e9", "x\u2028y"), encoding="utf-8")
    assert counted(tmp_path)["train"] == [8, 8, 8]


def test_several_columns_of_masks_need_the_setting(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("val", "c")):
        image(tmp_path / split / f"{name}.jpg")
        mask(tmp_path / split / "x" / f"{name}.png", 0, 1)
        mask(tmp_path / split / "y" / f"{name}.png", 1, 2)
    for split, names in (("train", "ab"), ("val", "c")):
        rows = [
            {"file_name": f"{n}.jpg", "edge_mask_file_name": f"x/{n}.png", "mask_file_name": f"y/{n}.png"}
            for n in names
        ]
        write(tmp_path / split / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(AmbiguousDatasetError, match="several columns could hold the masks") as caught:
        opened(tmp_path)
    for column, values in (("edge_mask", [6, 6, 0]), ("mask", [0, 6, 6])):
        assert f"mask_column: {column}" in str(caught.value)
        write(tmp_path / "dataset.yaml", f"mask_column: {column}\nclasses: [a, b, c]\n")
        assert counted(tmp_path)["val"] == values
    (tmp_path / "dataset.yaml").unlink()
    with pytest.raises(ConfigError, match=r"mask_column=maks: is not a column of masks; did you mean 'mask'\?"):
        opened(tmp_path, mask_column="maks")
    with pytest.raises(ConfigError, match="mask_column=image: is not a column of masks"):
        opened(tmp_path, mask_column="image")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"file_name": "z.jpg", "mask_file_name": "masks/a.png"}', "line 3: names 'z.jpg', which does not exist"),
        ('{"file_name": "masks/a.png", "mask_file_name": "masks/z.png"}', "line 3: names 'masks/z.png', which"),
        ('{"file_name": "masks/a.png", "mask_file_name": "../../x.png"}', "is outside the dataset"),
        ('{"file_name": 3, "mask_file_name": "masks/a.png"}', "3 is not a file name"),
        (
            '{"file_name": "a.jpg", "mask_file_name": "masks/a.png"}',
            "line 3: names 'a.jpg' again; name each image once",
        ),
        ('["a.jpg"]', 'line 3: .* is not an object such as {"file_name": "a.jpg"'),
        ('{"file_name": "a.jpg', "line 3: .* is not an object such as"),
    ],
)
def test_a_bad_row_is_a_defect(row: str, message: str, tmp_path: Path) -> None:
    file = metadata(tmp_path / "train", "a", "b")
    metadata(tmp_path / "val", "c")
    with file.open("a") as stream:
        stream.write(f"{row}\n")
    with pytest.raises(DataError, match=message):
        opened(tmp_path)
    (defect,) = [defect for defect in inspect_dataset(tmp_path).defects if defect.file == file]
    assert "\n" not in defect.detail


@pytest.mark.parametrize("row", ["x", "x,y,z,a.jpg,masks/a.png", f"{'x' * 200000},a.jpg,b.png", ",,"])
def test_a_bad_row_of_csv_is_a_defect(row: str, tmp_path: Path) -> None:
    file = metadata(tmp_path / "train", "a", "b", ending=".csv")
    with file.open("a") as stream:
        stream.write(f"{row}\n")
    with pytest.raises(DataError, match=r"is not a file name|a.jpg' again|cannot be read as CSV|does not exist"):
        opened(tmp_path)


def test_metadata_without_masks_is_said(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.jpg")
    write(tmp_path / "train" / "metadata.jsonl", '{"file_name": "a.jpg", "text": "a fig"}')
    with pytest.raises(DataError, match=r"metadata.jsonl names images and no masks \(mask_file_name\)"):
        opened(tmp_path)


def test_a_column_is_chosen_by_its_name(tmp_path: Path) -> None:
    assert choose_columns(["pixel_values", "label"], None, source=tmp_path) == ("pixel_values", "label")
    assert choose_columns(["depth", "image", "semantic_segmentation"], None, source=tmp_path)[0] == "image"
    assert choose_columns(["image", "edited"], "edited", source=tmp_path) == ("image", "edited")
    for names in (["image"], ["original", "edited"], ["left", "right", "mask"], []):
        with pytest.raises(DataError, match=r"one named image and one named mask are needed"):
            choose_columns(names, None, source=tmp_path)
    with pytest.raises(AmbiguousReadingError):
        choose_columns(["image", "mask", "labels"], None, source=tmp_path)


@pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "train/data-00000-of-00001.arrow"])
def test_columns_without_pyarrow_name_the_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / name, "PAR1")
    for module in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"pip install 'pyramidseg\[parquet\]'"):
        opened(tmp_path)


def test_several_configurations_are_named(tmp_path: Path) -> None:
    for name in ("full/train-0.parquet", "full/test-0.parquet", "small/train-0.parquet"):
        write(tmp_path / name, "PAR1")
    with pytest.raises(DataError, match=r"several configurations \(full, small\); name the folder of one of them"):
        opened(tmp_path)


def test_what_does_not_exist_may_be_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a folder or a YAML file, or on the .* hub, named hf://datasets/OWNER/NAME$"):
        opened(tmp_path / "acme" / "street")


@pytest.mark.parametrize("as_path", [False, True])
def test_a_dataset_of_the_hub_is_copied_once_for_each_commit(
    as_path: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(tmp_path / "cache"))
    metadata(tmp_path / "set" / "train", "a", "b")
    metadata(tmp_path / "set" / "val", "c")
    files = [path for path in (tmp_path / "set").rglob("*") if path.is_file()]
    with made_hub(tmp_path / "hub", monkeypatch) as hub:
        hub.kind, hub.commits = "datasets", {"main": "1" * 40, "old": "2" * 40}
        hub.contents["1" * 40] = {path.relative_to(tmp_path / "set").as_posix(): path.read_bytes() for path in files}
        hub.contents["2" * 40] = {name: body for name, body in hub.contents["1" * 40].items() if "train" in name}
        url = "hf://datasets/owner/street"
        for _ in range(2):
            found = open_dataset(Path(url) if as_path else url, DataConfig())
            assert {split: len(records) for split, records in found.splits.items()} == {"train": 2, "val": 1}
            check_dataset(found)
        loaded = [path for method, path in hub.asked if method == "GET" and "/resolve/" in path]
        assert len(loaded) == len(files)
        old = open_dataset(f"{url}@old", DataConfig(val_share=0.5))
        assert sum(len(records) for records in old.splits.values()) == 2
        with pytest.raises(DataError, match=r"^hf://datasets/owner/other: cannot be read: .*; check the address"):
            open_dataset("hf://datasets/owner/other", DataConfig())


def test_it_is_written_as_datasets_reads_it(tmp_path: Path) -> None:
    for split, name in (("train", "a"), ("train", "deep/b"), ("val", "a")):
        image(tmp_path / "in" / split / "images" / f"{name}.jpg")
        mask(tmp_path / "in" / split / "masks" / f"{name}.png", 0, 1, 255)
    write(tmp_path / "in" / "dataset.yaml", "classes: [ground, Straße]\nignore: 255\n")
    assert convert_dataset(tmp_path / "in", to="huggingface", out=tmp_path / "out").lost == {}
    rows = [json.loads(line) for line in (tmp_path / "out/train/metadata.jsonl").read_text().splitlines()]
    assert rows == [
        {"file_name": f"images/{name}.jpg", "mask_file_name": f"masks/{name}.png"} for name in ("a", "deep/b")
    ]
    assert json.loads((tmp_path / "out/id2label.json").read_text(encoding="utf-8")) == {"0": "ground", "1": "Straße"}
    with Image.open(tmp_path / "out/train/masks/deep/b.png") as written:
        assert np.unique(written).tolist() == [0, 1, 255]
    dataset = open_dataset(tmp_path / "out", DataConfig())
    assert dataset.layout == "Hugging Face image folder"
    assert dataset.classes.names == ("ground", "Straße")
    check_dataset(dataset)
