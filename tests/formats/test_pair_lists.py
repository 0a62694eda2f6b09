"""Lists of splits under any name, and lists that name the mask of each image."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from made_files import has_note, ids, image, mask, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_with_defects

NAMES = [f"i{number}" for number in range(6)]
WANTED = {"train": NAMES[:4], "val": NAMES[4:]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pairs(tmp_path / "images", tmp_path / "masks", NAMES)
    return tmp_path


def masks_of(path: Path) -> dict[str, str]:
    """The mask of each image, relative to the dataset."""
    records = [record for split in opened(path).splits.values() for record in split]
    return {record.image.name: record.mask.relative_to(path).as_posix() for record in records if record.mask}


LISTS: list[tuple[str, str]] = [
    *((f"{{}}{end}", "{}\n") for end in ("_list.txt", "list.txt", "_ids.txt", ".lst", ".list", "", "_filenames.txt")),
    ("list_{}.txt", "images/{}.jpg\n"),
    ("{}.csv", "{}.jpg\n"),
    ("splits/{}_pairs.tsv", "{}.jpg\t{}.png\n"),
    ("lists/fold0_{}.txt", "{}\n"),
    ("{}.lst", "17\t0.0\timages/{}.jpg\n"),
]


@pytest.mark.parametrize(("name", "line"), LISTS)
def test_listed_val_images_are_never_trained_on(folder: Path, name: str, line: str) -> None:
    for split, listed in WANTED.items():
        write(folder / name.format(split), "".join(line.replace("{}", image) for image in listed))
    assert ids(opened(folder)) == WANTED


@pytest.mark.parametrize("header", ["image", "id,path", "image_path,mask_path"])
def test_titles_of_columns_are_not_names(folder: Path, header: str) -> None:
    for split, listed in WANTED.items():
        rows = [f"{name}.jpg" if "," not in header else f"{n},{name}.jpg" for n, name in enumerate(listed)]
        write(folder / f"{split}.csv", "\n".join([header, *rows]))
    assert ids(opened(folder)) == WANTED


TABLES: Mapping[str, str] = {
    "split.csv": "image,split\n" + "".join(f"{n}.jpg,{s}\n" for s, names in WANTED.items() for n in names),
    "meta.csv": ",split,file\n" + "".join(f"9,{s.upper()},{n}\n" for s, names in WANTED.items() for n in names),
    "splits.tsv": "".join(f"{n}\t{s}\n" for s, names in WANTED.items() for n in names),
    "split.txt": "".join(f"images/{n}.jpg {s}ing\n".replace("valing", "valid") for s, m in WANTED.items() for n in m),
    "split.json": json.dumps(WANTED),
    "splits/dataset.json": json.dumps([{"image": n, "split": s} for s, names in WANTED.items() for n in names]),
}


@pytest.mark.parametrize("name", TABLES)
def test_table_with_a_column_of_splits_divides(folder: Path, name: str) -> None:
    write(folder / name, TABLES[name])
    dataset = opened(folder)
    assert ids(dataset) == WANTED
    assert has_note(dataset, f"divided by {Path(name).name}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val_ids.pkl", b"\x80", r"val_ids\.pkl: is named like the list of val and its type is not read"),
        ("val.npy", b"\x93NUMPY", r"val\.npy.*write the names to val\.txt"),
        ("split.csv", b"image,fold\ni0.jpg,1\n", r"split\.csv: is named like a table of splits"),
        ("val_list.txt", b"x\ny\n", r"val_list\.txt: none of its 2 names"),
        ("val.json", b'{"a": 1}', r"val\.json: is not a list of images"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(folder)


def test_two_lists_of_one_split_are_refused_unless_one_has_the_plain_name(folder: Path) -> None:
    write(folder / "train.txt", "i0\ni1\ni2\ni3\n")
    for name in ("val_list.txt", "list_val.txt"):
        write(folder / name, "i4\ni5\n")
    with pytest.raises(DataError, match=r"lists images of val, and so does .*; keep one, or rename it val\.txt"):
        opened(folder)
    (folder / "val_list.txt").rename(folder / "val.txt")
    assert ids(opened(folder)) == WANTED


@pytest.mark.parametrize("name", ["train_log.txt", "eval_metrics.csv", "train.log", "classes.csv"])
def test_other_files_are_not_lists(folder: Path, name: str) -> None:
    write(folder / name, "epoch,loss\n0,1.5\n1,1.2\n")
    assert not has_note(opened(folder), "divided by")


def test_lists_next_to_a_yaml_file_that_names_folders_divide(folder: Path) -> None:
    (folder / "images").rename(folder / "pics")
    (folder / "masks").rename(folder / "truth")
    write(folder / "dataset.yaml", "train: {images: pics, masks: truth}\n")
    write(folder / "train.txt", "i0\ni1\ni2\ni3\n")
    write(folder / "val.txt", "i4\ni5\n")
    assert ids(opened(folder)) == WANTED


SEPARATED = [
    "images/{}.jpg{}fixed/{}.png",
    "/images/{}.jpg{}/fixed/{}.png",
    "/home/me/set/images/{}.jpg{}/home/me/set/fixed/{}.png",
    "images\\{}.jpg{}fixed\\{}.png",
    "./images/{}.jpg{}./fixed/{}.png",
    "https://host/set/images/{}.jpg{}https://host/set/fixed/{}.png",
]


@pytest.mark.parametrize("separator", [" ", "\t", ",", "|", ", ", "  "])
@pytest.mark.parametrize("line", SEPARATED)
@pytest.mark.parametrize("stem", ["i (0), b", "7"])
def test_the_mask_that_a_list_names_is_used(tmp_path: Path, line: str, separator: str, stem: str) -> None:
    names = [f"{stem}{n}" for n in range(4)]
    pairs(tmp_path / "images", tmp_path / "masks", names)
    for place in range(4):
        mask(tmp_path / "fixed" / f"{names[3 - place]}.png")
    rows = [line.format(name, separator, names[3 - n]) for n, name in enumerate(names)]
    write(tmp_path / "train.txt", "\n".join(rows[:3]))
    write(tmp_path / "val.txt", rows[3])
    assert masks_of(tmp_path) == {f"{name}.jpg": f"fixed/{names[3 - n]}.png" for n, name in enumerate(names)}
    assert [len(records) for records in opened(tmp_path).splits.values()] == [3, 1]


def test_encoded_names_are_read(tmp_path: Path) -> None:
    names = [f"day {n}" for n in range(4)]
    pairs(tmp_path / "images", tmp_path / "masks", names)
    pairs(tmp_path / "images", tmp_path / "fixed", names, 0, 1, 2)
    rows = [f"images/day%20{n}.jpg fixed/day%20{n}.png" for n in range(4)]
    write(tmp_path / "train.txt", "\n".join(rows[:3]))
    write(tmp_path / "val.txt", rows[3])
    assert masks_of(tmp_path) == {f"{name}.jpg": f"fixed/{name}.png" for name in names}
    assert ids(opened(tmp_path))["val"] == ["day 3"]


def test_folders_of_a_pair_list_may_have_any_name(tmp_path: Path) -> None:
    for n in range(4):
        image(tmp_path / "raw" / f"{n}.jpg")
        mask(tmp_path / "truth" / f"m{3 - n}.png")
    rows = [f"raw/{n}.jpg,truth/m{3 - n}.png\n" for n in range(4)]
    write(tmp_path / "train.csv", "image,mask\n" + "".join(rows[:3]))
    write(tmp_path / "val.csv", "image,mask\n" + rows[3])
    assert masks_of(tmp_path) == {f"{n}.jpg": f"truth/m{3 - n}.png" for n in range(4)}


@pytest.mark.parametrize("prefix", ["FundusVessels/", "../set/", "a/b/c/", "./"])
def test_leading_folders_that_do_not_exist_are_ignored(tmp_path: Path, prefix: str) -> None:
    """PaddleX starts paths with the name of the dataset."""
    for name, ones in (("a", 1), ("b", 2), ("c", 3)):
        image(tmp_path / "JPEGImages" / f"{name}.jpg")
        mask(tmp_path / "Annotations" / f"{name}.png", *[1] * ones, *[0] * (12 - ones))
    for split, names in (("train_list", "ab"), ("val_list", "c")):
        rows = [f"{prefix}JPEGImages/{name}.jpg {prefix}Annotations/{name}.png\n" for name in names]
        write(tmp_path / f"{split}.txt", "".join(rows))
    dataset = opened(tmp_path)
    assert ids(dataset) == {"train": ["a", "b"], "val": ["c"]}
    assert [int((dataset.masks.read(r) == 1).sum()) for records in dataset.splits.values() for r in records] == [
        1,
        2,
        3,
    ]


def test_paths_may_be_relative_to_the_list(folder: Path) -> None:
    write(folder / "lists" / "train.lst", "../images/i0.jpg\t../masks/i1.png\n../images/i1.jpg\t../masks/i0.png\n")
    assert masks_of(folder) == {"i0.jpg": "masks/i1.png", "i1.jpg": "masks/i0.png"}


@pytest.mark.parametrize("name", ["masks/no.png", "../../../../etc/x.png"])
def test_named_mask_that_does_not_exist_in_the_dataset_is_refused(folder: Path, name: str) -> None:
    write(folder / "train.txt", f"images/i0.jpg masks/i0.png\nimages/i1.jpg {name}\n")
    with pytest.raises(DataError, match=r"train\.txt: names '.*', and no path inside the dataset leads to it"):
        opened(folder)


def test_pair_listed_for_train_and_val_is_a_leak(folder: Path) -> None:
    write(folder / "train.txt", "images/i0.jpg masks/i0.png\nimages/i1.jpg masks/i1.png\n")
    write(folder / "val.txt", "images/i1.jpg masks/i1.png\n")
    dataset, defects = open_with_defects(folder, DataConfig())
    assert ids(dataset) == {"train": ["i0", "i1"]}
    assert [defect.kind.value for defect in defects] == ["leak"]


@pytest.mark.parametrize("slash", ["/", ""])
@pytest.mark.parametrize("place", ["ImageSets/Segmentation/{}.txt", "ImageSets/Segmentation/{}_aug.txt"])
def test_voc_lists_choose_the_folder_of_masks(tmp_path: Path, slash: str, place: str) -> None:
    pairs(tmp_path / "JPEGImages", tmp_path / "SegmentationClass", NAMES)
    for name in NAMES:
        mask(tmp_path / "SegmentationClassAug" / f"{name}.png")
    for split, listed in WANTED.items():
        rows = [f"{slash}JPEGImages/{n}.jpg {slash}SegmentationClassAug/{n}.png\n" for n in listed]
        write(tmp_path / place.format(split), "".join(rows))
    assert masks_of(tmp_path) == {f"{name}.jpg": f"SegmentationClassAug/{name}.png" for name in NAMES}
    assert ids(opened(tmp_path)) == WANTED
