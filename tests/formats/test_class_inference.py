import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_files import color_mask, image, labels, mask, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError
from pyramidseg.base.log import Progress, report_progress
from pyramidseg.data.records import Dataset
from pyramidseg.formats.label_interpretation import AmbiguousLabelsError
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError


def make(folder: Path, *values: int) -> Path:
    pairs(folder / "images", folder / "masks", ["a", "b"], *values)
    return folder


def test_ids_without_gaps_become_numbered_classes(tmp_path: Path) -> None:
    dataset = opened(make(tmp_path, 0, 1, 2, 255))
    assert dataset.classes.names == ("class 0", "class 1", "class 2")
    assert any("mask values are 0-2, 255, so there are 3 (ignored: 255)" in note for note in dataset.notes)


def pasted(source: Path, error: AmbiguousDatasetError, *, uncomment: int = 0) -> Dataset:
    """The dataset with the suggested YAML in its dataset file, with another alternative than the first if asked."""
    alternatives = error.suggestion.split("# or ")
    text = alternatives[uncomment]
    if uncomment:
        text = "\n".join(line.removeprefix("# ") for line in text.splitlines()[1:])
    assert str(error).endswith(error.suggestion)
    write(source / "dataset.yaml", text if uncomment else error.suggestion)
    return opened(source)


def test_gap_is_refused_with_files_shares_and_proposals_that_work(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousDatasetError) as caught:
        opened(make(tmp_path, 0, 2, 255))
    message = str(caught.value)
    assert re.search(r"are 0, 2, 255, .* 1 is missing, while 2 occurs in 2 masks \(33.33% .* in .*a\.png\)", message)
    dataset = pasted(tmp_path, caught.value)
    assert dataset.classes.names == ("class 0", "class 2")
    assert labels(dataset) == [0, 1, 255]
    assert "data.ignore" not in caught.value.suggestion  # it would leave a single class


def test_values_from_1_on_are_proposed_as_classes(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousDatasetError, match=r"run from 0 .*but 0 is missing; .*dataset\.yaml") as caught:
        opened(make(tmp_path, 1, 2, 3))
    assert pasted(tmp_path, caught.value).classes.names == ("class 1", "class 2", "class 3")


def test_stray_values_in_binary_masks_are_distinguished_from_classes(tmp_path: Path) -> None:
    make(tmp_path, 0, 255)
    for index in range(12):
        pairs(tmp_path / "images", tmp_path / "masks", [f"clean{index}"], 0, 255)
    mask(tmp_path / "masks" / "b.png", 0, 255, 3, 0, 255, 255)
    with pytest.raises(AmbiguousDatasetError, match=r"3 occurs in 1 masks .*b\.png") as caught:
        opened(tmp_path)
    assert "(data.binary=true data.ignore=3)" in caught.value.suggestion
    assert labels(opened(tmp_path, binary=True, ignore=[3])) == [0, 1]
    assert labels(pasted(tmp_path, caught.value)) == [0, 1]


@pytest.mark.parametrize(("stray_pixels", "classes"), [(1, (0, 1, 2)), (30, (0, 1, 2, 77))])
def test_rare_values_behind_a_gap_are_read_as_strays(
    tmp_path: Path, stray_pixels: int, classes: tuple[int, ...]
) -> None:
    (tmp_path / "masks").mkdir(parents=True)
    values = np.resize(np.array([0, 1, 2], np.uint8), (10, 30))
    values[0, :stray_pixels] = 77
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.jpg", height=10, width=30)
        Image.fromarray(values).save(tmp_path / "masks" / f"{name}.png")
    with pytest.raises(AmbiguousLabelsError, match=r"3 is missing, while 77 ") as caught:
        opened(tmp_path)
    likeliest = caught.value.interpretations[0]
    assert likeliest.classes is not None
    assert tuple(entry.value for entry in likeliest.classes) == classes
    assert "data.ignore=77" in caught.value.suggestion
    assert len(pasted(tmp_path, caught.value).classes) == len(classes)
    assert len(pasted(tmp_path, caught.value, uncomment=1).classes) == 7 - len(classes)


def test_grey_levels_that_are_classes_are_proposed_as_such(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousDatasetError) as caught:
        opened(make(tmp_path, 0, 128, 255))
    assert pasted(tmp_path, caught.value).classes.names == ("class 0", "class 128", "class 255")


def test_error_for_smoothed_binary_masks_proposes_a_threshold(tmp_path: Path) -> None:
    smooth = np.zeros((80, 80), np.uint8)
    smooth[40:] = 255
    smooth[40, :40] = np.arange(100, 140)
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.jpg", height=80, width=80)
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        Image.fromarray(smooth).save(tmp_path / "masks" / f"{name}.png")
    with pytest.raises(AmbiguousDatasetError, match=r"0 and 255 make up 99\.4%") as caught:
        opened(tmp_path)
    assert "data.threshold=128" in caught.value.suggestion
    assert labels(opened(tmp_path, threshold=128)) == [0, 1]
    assert labels(pasted(tmp_path, caught.value)) == [0, 1]


def test_masks_that_cannot_be_read_are_left_to_the_check(tmp_path: Path) -> None:
    make(tmp_path, 0, 1)
    (tmp_path / "masks" / "a.png").write_bytes(b"")
    assert len(opened(tmp_path).classes) == 2


def test_error_of_the_first_mask_is_reported_if_none_can_be_read(tmp_path: Path) -> None:
    make(tmp_path, 0, 1)
    for name in ("a", "b"):
        (tmp_path / "masks" / f"{name}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: the file is empty"):
        opened(tmp_path)


def test_colours_without_names_are_proposed_as_a_list_that_works(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.jpg")
        color_mask(tmp_path / "masks" / f"{name}.png", (0, 0, 0), (0, 0, 0), (9, 8, 7))
    with pytest.raises(AmbiguousDatasetError, match="the masks contain 2 colours, and no class list names") as caught:
        opened(tmp_path)
    dataset = pasted(tmp_path, caught.value)
    assert dataset.classes.colors == ((0, 0, 0), (9, 8, 7))
    assert labels(dataset) == [0, 1]


def test_error_for_too_many_colours_names_the_tolerance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.jpg", height=20, width=20)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    with pytest.raises(DataError, match=r"more than 255 colours, as photographs do .* tolerance"):
        opened(tmp_path)


def test_only_0_and_255_is_refused_until_it_is_settled(tmp_path: Path) -> None:
    make(tmp_path, 0, 255)
    with pytest.raises(AmbiguousDatasetError, match="only 0, 255; without 255 there is no second class") as caught:
        opened(tmp_path)
    assert "(data.binary=true)" in caught.value.suggestion
    assert "ignore" not in caught.value.suggestion  # it would leave a single class
    assert labels(opened(tmp_path, binary=True)) == [0, 1]
    assert labels(opened(tmp_path, ignore=255)) == [0, 255]
    assert labels(pasted(tmp_path, caught.value)) == [0, 1]


def test_proposal_for_a_folder_in_a_folder_is_pasted_into_the_outer_one(tmp_path: Path) -> None:
    make(tmp_path / "unpacked" / "data", 0, 255)
    with pytest.raises(AmbiguousDatasetError, match=r"paste these lines into .*/dataset\.yaml") as caught:
        opened(tmp_path)
    assert labels(pasted(tmp_path, caught.value)) == [0, 1]


def test_nothing_but_ignored_pixels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 255; without 255 there is no second class"):
        opened(make(tmp_path, 255))


def test_more_than_255_classes_are_refused(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
    values = np.arange(300, dtype=np.uint16)[None]
    Image.fromarray(values).save(tmp_path / "masks" / "a.png")
    with pytest.raises(DataError, match=r"300 values, like grey levels or instance numbers.*\n.*every value except 0"):
        opened(tmp_path)


def test_ignored_values_close_gaps(tmp_path: Path) -> None:
    assert labels(opened(make(tmp_path, 0, 1, 7), ignore=[7])) == [0, 1, 255]


def test_progress_covers_all_masks(tmp_path: Path) -> None:
    make(tmp_path, 0, 1)
    seen: list[Progress] = []
    with report_progress(seen.append):
        open_dataset(tmp_path, DataConfig())
    assert {progress.total for progress in seen} == {2}
    assert max(progress.done for progress in seen) == 2
