from pathlib import Path

import pytest

from made_files import first_row, has_note, ids, image, opened, pairs, write
from pyramidseg.base.errors import DataError
from pyramidseg.formats.ade20k import ADE20K


def benchmark(folder: Path, *values: int) -> Path:
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        pairs(folder / "images" / split, folder / "annotations" / split, [name], *values)
    write(folder / "objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName\n")
    write(folder / "sceneCategories.txt", "ADE_train_00000001 airport_terminal\n")
    return folder


def test_values_are_shifted_by_one_and_0_is_ignored(tmp_path: Path) -> None:
    dataset = opened(benchmark(tmp_path / "ADEChallengeData2016", 0, 1, 2, 150))
    assert dataset.layout == "ADE20K (images/{split}, annotations/{split})"
    assert ids(dataset) == {"train": ["ADE_train_00000001"], "val": ["ADE_val_00000001"]}
    assert first_row(dataset) == [255, 0, 1, 149]


def test_outer_folder_is_entered_with_a_note(tmp_path: Path) -> None:
    benchmark(tmp_path / "ADEChallengeData2016", 0, 1)
    assert has_note(opened(tmp_path), "the dataset is in", "ADEChallengeData2016")


def test_names_are_the_benchmarks(tmp_path: Path) -> None:
    classes = opened(benchmark(tmp_path, 0, 1)).classes
    assert len(classes) == 150
    assert [classes.names[index] for index in (0, 1, 2, 12, 20, 76, 149)] == [
        *("wall", "building", "sky", "person", "car", "boat", "flag")
    ]
    assert classes.colors[0] == (120, 120, 120)
    assert [label.value for label in ADE20K] == [*range(1, 151), 0]


@pytest.mark.parametrize("mark", ["objectInfo150.txt", "sceneCategories.txt"])
def test_names_of_files_are_enough_without_the_lists(tmp_path: Path, mark: str) -> None:
    (benchmark(tmp_path, 0, 1) / mark).unlink()
    assert opened(tmp_path).layout.startswith("ADE20K")
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    assert opened(tmp_path).layout.startswith("ADE20K")


def test_lists_without_folders_are_named(tmp_path: Path) -> None:
    write(tmp_path / "objectInfo150.txt", "")
    image(tmp_path / "images" / "training" / "a.jpg")
    with pytest.raises(DataError, match="but not both images and annotations, as ADE20K has"):
        opened(tmp_path)


def test_classes_can_be_chosen_by_name(tmp_path: Path) -> None:
    text = "classes: [{name: house, from: [building, house]}, wall]\nignore: '*'"
    assert first_row(opened(write(benchmark(tmp_path, 0, 1, 2, 26) / "d.yaml", text))) == [255, 1, 0, 0]
