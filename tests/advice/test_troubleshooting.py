"""The remedies of docs/troubleshooting.md for lists, names and pairs are followed; the quoted messages exist."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from followed import alternatives, counted, message, paste, settings_in, sizes
from made_files import ids, image, mask, opened, pairs, write

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
SOURCE = Path(__file__).parents[2] / "src" / "pyramidseg"
HALVES = {"class 0": 24, "class 1": 24}


def test_the_messages_that_the_page_quotes_exist() -> None:
    source = " ".join(file.read_text(encoding="utf-8") for file in SOURCE.rglob("*.py"))
    source = re.sub(r"\s+", " ", re.sub(r'"\s*\n\s*f?"', "", source))
    for quote in re.findall(r'\*\*"([^"]+)"\*\*', PAGE.read_text(encoding="utf-8").replace("\\*", "*")):
        words = quote.split()
        length = min(3, len(words) - 1)
        runs = [" ".join(words[at : at + length]) for at in range(len(words) - length + 1)]
        assert any(run in source for run in runs), quote


def test_the_extras_that_messages_and_pages_install_exist() -> None:
    root = SOURCE.parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    files = [*SOURCE.rglob("*.py"), *(root / "docs").rglob("*.md"), root / "README.md"]
    texts = [file.read_text(encoding="utf-8") for file in files]
    named = {
        name for text in texts for found in re.findall(r"pyramidseg\[([\w,]+)\]", text) for name in found.split(",")
    }
    named |= {name for text in texts for name in re.findall(r'extra="(\w+)", purpose', text)}
    assert len(named) > 5 and named <= extras.keys()


def listed(root: Path, files: dict[str, str]) -> Path:
    """Images a to d with masks of 0 and 1, and lists."""
    pairs(root / "images", root / "masks", "abcd")
    for name, text in files.items():
        write(root / name, text)
    return root


@pytest.mark.parametrize("remedy", ["write the names to val.txt", "move the file away"])
def test_a_list_of_a_type_that_is_not_read(tmp_path: Path, remedy: str) -> None:
    listed(tmp_path, {"train.txt": "a\nb\n", "val.pkl": "?"})
    assert remedy in message(lambda: opened(tmp_path))
    if remedy == "move the file away":
        (tmp_path / "val.pkl").unlink()
        assert sum(sizes(opened(tmp_path)).values()) == 2
    else:
        write(tmp_path / "val.txt", "c\nd\n")
        assert ids(opened(tmp_path)) == {"train": ["a", "b"], "val": ["c", "d"]}


@pytest.mark.parametrize("remedy", ["keep one", "rename it val.txt"])
def test_two_lists_of_one_split(tmp_path: Path, remedy: str) -> None:
    listed(tmp_path, {"train.txt": "a\nb\n", "val_list.txt": "d\n", "val_ids.txt": "c\n"})
    assert remedy in message(lambda: opened(tmp_path))
    if remedy == "keep one":
        (tmp_path / "val_ids.txt").unlink()
    else:
        (tmp_path / "val_list.txt").rename(tmp_path / "val.txt")
    assert ids(opened(tmp_path)) == {"train": ["a", "b"], "val": ["d"]}


@pytest.mark.parametrize(
    ("files", "remedy", "repaired"),
    [
        (
            {"split.csv": "image,fold\na,1\nb,2\n"}, "one of train, val or test",
            {"split.csv": "image,split\na,train\nb,train\nc,train\nd,val\n"},
        ),
        ({"train.txt": "a\nb\nc\nx\n", "val.txt": "d\n"}, "remove it from the list", {"train.txt": "a\nb\nc\n"}),
        ({"train.txt": "a\nb\nc\n", "val.txt": "c\nd\n"}, "take it out of one list", {"val.txt": "d\n"}),
        ({"train.txt": "a\na\nb\nc\n", "val.txt": "d\n"}, "name each once", {"train.txt": "a\nb\nc\n"}),
        ({"train.txt": "a\nb\nc\n", "val.txt": ""}, "add names", {"val.txt": "d\n"}),
    ],
)  # fmt: skip
def test_a_list_that_is_corrected(tmp_path: Path, files: dict[str, str], remedy: str, repaired: dict[str, str]) -> None:
    listed(tmp_path, files)
    assert remedy in message(lambda: opened(tmp_path))
    listed(tmp_path, repaired)
    assert ids(opened(tmp_path)) == {"train": ["a", "b", "c"], "val": ["d"]}
    assert counted(opened(tmp_path)) == HALVES


@pytest.mark.parametrize("folder", ["masks_fixed", "SegmentationClassAug"])
def test_a_mask_that_a_list_names_is_read_or_refused(tmp_path: Path, folder: str) -> None:
    lines = [f"images/{name}.jpg {folder}/{name}.png" for name in "abcd"]
    listed(tmp_path, {"train.txt": "\n".join(lines[:3]), "val.txt": lines[3]})
    text = message(lambda: opened(tmp_path))
    assert f"{folder}/a.png" in text and "correct the list or add the file" in text
    for name in "abcd":
        mask(tmp_path / folder / f"{name}.png", 0, 1, 2)
    assert counted(opened(tmp_path)) == {"class 0": 16, "class 1": 16, "class 2": 16}
    for name in ("train.txt", "val.txt"):
        write(tmp_path / name, (tmp_path / name).read_text().replace(folder, "masks"))
    assert counted(opened(tmp_path)) == HALVES


def test_names_that_agree_without_a_beginning_need_nothing(tmp_path: Path) -> None:
    for number in range(4):
        image(tmp_path / "images" / f"img_{number:03}.jpg")
        mask(tmp_path / "masks" / f"mask_{number:03}.png")
    dataset = opened(tmp_path)
    assert counted(dataset) == HALVES
    assert any("paired by their names without 'img_'" in note for note in dataset.notes)
    assert all(str(record.mask)[-7:-4] == record.image.stem[-3:] for record in dataset.split("train"))
    write(tmp_path / "dataset.yaml", 'mask_name: "mask_{stem}"\n')
    assert counted(opened(tmp_path)) == HALVES


def test_names_that_do_not_agree_at_all_are_renamed(tmp_path: Path) -> None:
    for number, name in enumerate("abcd"):
        image(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / f"x{number}y.png")
    assert "rename files" in message(lambda: opened(tmp_path))
    for number, name in enumerate("abcd"):
        (tmp_path / "masks" / f"x{number}y.png").rename(tmp_path / "masks" / f"{name}.png")
    assert counted(opened(tmp_path)) == HALVES


def test_one_of_several_masks_of_an_image_is_chosen(tmp_path: Path) -> None:
    for name in "abcd":
        image(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / f"{name}_mask.png")
        mask(tmp_path / "masks" / f"{name}_edge.png", 0, 1, 2)
    text = message(lambda: opened(tmp_path))
    found = []
    for choice in range(len(alternatives(text))):
        file = paste(text, choice)
        found.append((re.search(r"_\w+", file.read_text().partition("}")[2])[0], len(counted(opened(tmp_path)))))
        file.unlink()
    assert sorted(found) == [("_edge", 3), ("_mask", 2)]


def coco(root: Path, names: list[str], files: list[str]) -> Path:
    """An export whose images are called `names` and are in `files`; 16 pixels of the first 4 rows of each are a car."""
    for file in files:
        image(root / "images" / file, height=8, width=10)
    outline = {
        "category_id": 1,
        "iscrowd": 0,
        "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]],
        "bbox": [0, 0, 4, 4],
        "area": 16,
    }
    content = {
        "images": [{"id": at, "file_name": name, "height": 8, "width": 10} for at, name in enumerate(names)],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": at, "image_id": at, **outline} for at in range(len(names))],
    }
    return write(root / "result.json", json.dumps(content))


def test_names_of_another_place_need_nothing_if_their_ends_are_unique(tmp_path: Path) -> None:
    names = ["https://host/y/a%20b.jpg?v=1", "..\\..\\media\\c.jpg", "/home/me/d.jpg", "/data/local-files/?d=x/e.jpg"]
    coco(tmp_path, names, ["a b.jpg", "c.jpg", "d.jpg", "e.jpg"])
    assert counted(opened(tmp_path)) == {"background": 256, "car": 64}
    assert any(note.startswith("4 names of images in result.json") for note in opened(tmp_path).notes)


@pytest.mark.parametrize("remedy", ["rename one", "correct its `file_name`"])
def test_a_name_that_two_images_have(tmp_path: Path, remedy: str) -> None:
    assert remedy in PAGE.read_text()
    coco(tmp_path, ["https://host/a.jpg", "c.jpg"], ["one/a.jpg", "two/a.jpg", "c.jpg"])
    assert "there is no such file" in message(lambda: counted(opened(tmp_path)))
    if remedy == "rename one":
        (tmp_path / "images" / "two" / "a.jpg").rename(tmp_path / "images" / "two" / "z.jpg")
    else:
        coco(tmp_path, ["images/one/a.jpg", "images/c.jpg"], [])
    assert counted(opened(tmp_path)) == {"background": 128, "car": 32}


@pytest.mark.parametrize("value", [255, 200])
def test_the_settings_of_the_page_for_two_values(tmp_path: Path, value: int) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "abcd", 0, value)
    entry = PAGE.read_text().partition('"the mask values are only 0, 255"')[2].partition("\n\n")[0]
    binary, threshold = (setting.rstrip("`") for setting in settings_in(entry))
    given = {"binary": True} if value == 255 else {"threshold": int(threshold.partition("=")[2])}
    assert binary == "data.binary=true"
    assert counted(opened(tmp_path, **given)) == {"background": 24, "foreground": 24}
