"""CVAT for images 1.1: polygons, masks as run lengths, ellipses; and files that cannot be read."""

from pathlib import Path

import numpy as np
import pytest

from made_files import defects, has_note, ids, image, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 8, 10
META = (
    "<meta><task><labels><label><name>leaf</name><attributes><attribute><name>kind</name></attribute></attributes>"
    "</label><label><name>fig</name><color>#102030</color></label><label><name>sign</name></label></labels></task></meta>"
)


def element(name: str, more: str, *shapes: str) -> str:
    return f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}" {more}>{"".join(shapes)}</image>'


def polygon(label: str, left: float, top: float, right: float, bottom: float, z: int = 0) -> str:
    points = f"{left:.2f},{top:.2f};{right:.2f},{top:.2f};{right:.2f},{bottom:.2f};{left:.2f},{bottom:.2f}"
    return f'<polygon label="{label}" source="manual" points="{points}" z_order="{z}"></polygon>'


def rle(label: str, runs: str, left: int, top: int, width: int, height: int) -> str:
    box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
    return f'<mask label="{label}" rle="{runs}" {box} z_order="0"><attribute name="a">b</attribute></mask>'


def annotations(root: Path, *images: str, meta: str = META, name: str = "annotations.xml") -> Path:
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}'
    return write(root / name, f"{text}{''.join(images)}</annotations>\n")


def with_images(root: Path, *names: str) -> None:
    for name in names:
        image(root / "images" / name, height=HEIGHT, width=WIDTH)


def opened(root: Path) -> Dataset:
    return open_dataset(root, DataConfig(val_share=0.5))


def labels_of(dataset: Dataset, id: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    (record,) = [record for records in dataset.splits.values() for record in records if record.id == id]
    return dataset.masks.read(record)


def test_polygons_and_masks_are_drawn_with_their_declared_classes(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    shapes = polygon("fig", 0, 0, 4, 8), rle("leaf", "1, 2, 3", 7, 2, 3, 2)
    annotations(tmp_path, element("a.jpg", "", *shapes), element("b.jpg", ""))
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("background", "leaf", "fig", "sign")
    assert dataset.classes.colors[2] == (16, 32, 48)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:, :4] = 2
    expected[2, 8:10] = 1
    assert np.array_equal(labels_of(dataset, "images/a"), expected)
    assert not labels_of(dataset, "images/b").any()
    assert has_note(dataset, "no region has the classes 'sign'")


def test_higher_z_order_is_on_top_then_the_smaller_region_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    inner, outer = polygon("fig", 1, 1, 3, 3), polygon("leaf", 0, 0, 6, 6)
    above = polygon("leaf", 0, 0, 6, 6, z=1)
    annotations(tmp_path, element("a.jpg", "", inner, outer), element("b.jpg", "", inner, above))
    dataset = opened(tmp_path)
    assert np.bincount(labels_of(dataset, "images/a").ravel()).tolist() == [44, 32, 4]
    assert np.bincount(labels_of(dataset, "images/b").ravel()).tolist() == [44, 36]


def test_boxes_are_counted_and_not_drawn(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    box = '<box label="sign" xtl="1" ytl="1" xbr="5" ybr="5" z_order="3"></box>'
    annotations(tmp_path, element("a.jpg", "", box, polygon("fig", 0, 0, 4, 8)), element("b.jpg", "", box))
    dataset = opened(tmp_path)
    assert (labels_of(dataset, "images/a") == 2).sum() == 32
    assert has_note(dataset, "2 box of sign")


def test_file_of_boxes_alone_is_refused(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg")
    annotations(tmp_path, element("a.jpg", "", '<box label="sign" xtl="1" ytl="1" xbr="5" ybr="5"/>'))
    with pytest.raises(DefectError, match="no outlined object with a label, but 1 box of sign, which are not masks"):
        opened(tmp_path)


def test_ellipse_has_the_area_of_an_ellipse(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg", height=100, width=200)
    image(tmp_path / "b.jpg", height=100, width=200)
    shape = '<ellipse label="fig" cx="100" cy="50" rx="60" ry="30" rotation="0" z_order="0"/>'
    texts = [f'<image name="{name}" width="200" height="100">{shape}</image>' for name in ("a.jpg", "b.jpg")]
    annotations(tmp_path, *texts)
    assert (labels_of(opened(tmp_path), "a") == 2).sum() == pytest.approx(np.pi * 60 * 30, rel=0.005)


def test_subset_is_the_split_and_folders_of_the_name_may_be_missing(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    fig = polygon("fig", 0, 0, 4, 8)
    annotations(
        tmp_path, element("server/Train/a.jpg", 'subset="Train"', fig), element("b.jpg", 'subset="Validation"', fig)
    )
    dataset = open_dataset(tmp_path, DataConfig())
    assert {split: [record.id for record in some] for split, some in dataset.splits.items()} == {
        "train": ["images/a"],
        "val": ["images/b"],
    }


def test_frames_of_several_subsets_may_have_equal_names(tmp_path: Path) -> None:
    """The project layout of CVAT: the name of a frame lacks the folder of its subset."""
    widths = {"Train": 4, "Validation": 6}
    with_images(tmp_path, *(f"{subset}/{name}" for subset in widths for name in ("0.jpg", "cam/1.jpg")))
    elements = [
        element(name, f'subset="{subset}"', polygon("fig", 0, 0, width, 8))
        for subset, width in widths.items()
        for name in ("0.jpg", "cam/1.jpg")
    ]
    annotations(tmp_path, *elements)
    dataset = open_dataset(tmp_path, DataConfig())
    every = ids(dataset)["train"] + ids(dataset)["val"]
    found = {id: np.count_nonzero(labels_of(dataset, id)) // HEIGHT for id in every}
    assert found == {
        **{"images/Train/0": 4, "images/Train/cam/1": 4},
        **{"images/Validation/0": 6, "images/Validation/cam/1": 6},
    }


def test_name_that_leads_out_of_the_dataset_finds_nothing_outside(tmp_path: Path) -> None:
    image(tmp_path / "secret.jpg")
    annotations(tmp_path / "set", element("../secret.jpg", "", polygon("fig", 0, 0, 4, 8)))
    with_images(tmp_path / "set", "other.jpg")
    assert [defect.kind for defect in defects(tmp_path / "set")] == [DefectKind.MISSING_IMAGE]


def test_two_images_of_one_name_are_not_guessed(tmp_path: Path) -> None:
    image(tmp_path / "x" / "a.jpg", height=HEIGHT, width=WIDTH)
    image(tmp_path / "y" / "a.jpg", height=HEIGHT, width=WIDTH)
    annotations(tmp_path, element("a.jpg", "", polygon("fig", 0, 0, 4, 8)))
    with pytest.raises(DefectError, match=r"the image 'a.jpg' could be .*x/a.jpg or .*y/a.jpg") as caught:
        opened(tmp_path)
    assert caught.value.defect.kind == DefectKind.BAD_ANNOTATION


def test_video_is_refused_by_name(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg")
    annotations(tmp_path, '<track id="0" label="fig"><polygon frame="0" points="0,0;1,0;1,1"/></track>')
    with pytest.raises(DataError, match=r"CVAT for video .*export the task as CVAT for images 1\.1"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (rle("fig", "99999999999, 1", 0, 0, 3, 2), "have to add up to the 3 x 2 = 6 pixels"),
        (rle("fig", "1, 1e400", 0, 0, 3, 2), "have to be whole numbers"),
        (rle("fig", "-1, 7", 0, 0, 3, 2), "have to add up"),
        (rle("fig", "6", 9, 0, 3, 2), "is not inside the image"),
        (rle("fig", "6", 0, 0, 2**31, 2**31), "whole number is needed"),
        ('<polygon label="fig" points="0,0;nan,0;1,1" z_order="0"/>', "not a finite number"),
        ('<polygon label="fig" points="0,0;1,1" z_order="0"/>', "needs at least 3 points"),
        ('<polygon label="fig" points="0,0;500,0;500,1" z_order="0"/>', "far outside the image"),
        ('<polygon label="fig" points="" z_order="0"/>', "coordinates must be numbers"),
        ('<polygon label="fig" points="0,0;5,0;5,5" z_order="nan"/>', "z_order"),
        ('<polygon label="" points="0,0;5,0;5,5" z_order="0"/>', "no usable label"),
        ('<ellipse label="fig" cx="1" cy="1" rx="0" ry="inf" z_order="0"/>', "where a number is needed"),
        ('<blob label="fig" z_order="0"/>', "is a <blob>; allowed are polygon, mask, ellipse"),
    ],
)
def test_object_that_cannot_be_drawn_is_a_defect(tmp_path: Path, shape: str, message: str) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    fig = polygon("fig", 0, 0, 4, 8)
    annotations(tmp_path, element("a.jpg", "", fig, shape), element("b.jpg", "", fig))
    with pytest.raises(DefectError) as caught:
        check_dataset(opened(tmp_path))
    assert caught.value.defect.detail.startswith("object 2 of images/a: ")
    assert message in caught.value.defect.detail


LAUGHS = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotations>&y;</annotations>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotations>&x;</annotations>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "has a document type"),
        (OUTSIDE, "has a document type"),
        ("<annotations>" + "<a>" * 10**5, "nested too deeply"),
        ("<annotations><image name='a.jpg'", "not readable as XML"),
        ("<annotations></annotations>", "describes no image"),
        ("<other/>", "begins with <other>"),
        ("<?xml version='1.0' encoding='latin-1'?><annotations/>", "UTF-8 is needed"),
        ("<annotations><image width='3' height='2'/></annotations>", "<image> without a usable name"),
        ("<annotations><image name='a.jpg' width='0' height='x'/></annotations>", "have to be whole numbers from 1"),
    ],
)
def test_hostile_or_damaged_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with_images(tmp_path, "a.jpg")
    write(tmp_path / "annotations.xml", text)
    assert any(message in defect.detail for defect in defects(tmp_path))
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert "\n" not in str(caught.value)
