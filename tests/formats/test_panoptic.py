import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_files import defects, has_note, ids, image, opened, write
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import DataError

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60], "supercategory": "person"},
    {"id": 184, "name": "tree-merged", "isthing": 0, "color": [107, 142, 35], "supercategory": "plant"},
]
NUMBERS = np.array([[0, 70_000, 70_000, 5], [0, 70_000, 300, 5], [256, 256, 256, 5]])
SEGMENTS = [
    {"id": 70_000, "category_id": 1, "iscrowd": 0},
    {"id": 300, "category_id": 1, "iscrowd": 1},
    {"id": 5, "category_id": 184, "iscrowd": 0},
    {"id": 256, "category_id": 184, "iscrowd": 0},
]


def png(path: Path, numbers: "np.ndarray[Any, np.dtype[np.int64]]" = NUMBERS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1)
    Image.fromarray(colors.astype(np.uint8)).save(path)


def panoptic(root: Path, split: str = "train2017", segments: Any = SEGMENTS, **changes: Any) -> Path:
    """COCO's folders, with the images `a` and `b` of one split."""
    for name in ("a", "b"):
        image(root / split / f"{name}.jpg")
        png(root / "annotations" / f"panoptic_{split}" / f"{name}.png")
    content = {
        "info": {},
        "images": [
            {"id": index, "file_name": f"{name}.jpg", "height": 3, "width": 4} for index, name in enumerate("ab")
        ],
        "annotations": [
            {"image_id": index, "file_name": f"{name}.png", "segments_info": segments}
            for index, name in enumerate("ab")
        ],
        "categories": CATEGORIES,
        **changes,
    }
    return write(root / "annotations" / f"panoptic_{split}.json", json.dumps(content))


def test_numbers_in_colours_become_classes_and_void_and_crowds_are_ignored(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        panoptic(tmp_path, split)
    dataset = opened(tmp_path)
    assert ids(dataset) == {"train": ["a", "b"], "val": ["a", "b"]}
    assert dataset.layout.startswith("COCO panoptic (annotations/panoptic_train2017.json")
    assert dataset.classes.names == ("person", "tree-merged")
    assert dataset.classes.colors == ((220, 20, 60), (107, 142, 35))
    expected = [[IGNORE, 0, 0, 1], [IGNORE, 0, IGNORE, 1], [1, 1, 1, 1]]
    assert dataset.masks.read(dataset.split("val")[1]).tolist() == expected
    assert has_note(dataset, "4 crowds (iscrowd)", "ignored")


def test_user_can_make_crowds_their_class(tmp_path: Path) -> None:
    panoptic(tmp_path)
    write(tmp_path / "dataset.yaml", "classes: [{name: person, from: [person, person (crowd)]}, tree-merged]")
    dataset = opened(tmp_path)
    assert dataset.masks.read(dataset.split("train")[0])[1].tolist() == [IGNORE, 0, 0, 1]


def test_instances_next_to_it_leave_two_readings(tmp_path: Path) -> None:
    outline = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2]]}
    instances = panoptic(tmp_path, annotations=[outline]).read_text()
    panoptic(tmp_path)
    write(tmp_path / "annotations" / "instances_train2017.json", instances)
    with pytest.raises(DataError, match=r"could be of format coco or coco_panoptic; set data\.format"):
        opened(tmp_path)
    assert opened(tmp_path, format="coco").classes.names == ("background", "person", "tree-merged")
    assert opened(tmp_path, format="coco_panoptic").classes.names == ("person", "tree-merged")


def test_pixels_of_a_segment_that_is_not_listed_are_a_defect(tmp_path: Path) -> None:
    panoptic(tmp_path, segments=SEGMENTS[:2])
    dataset = opened(tmp_path)
    with pytest.raises(DefectError, match=r"a\.png: holds pixels of segment 5 and 1 more, which .* does not list"):
        dataset.masks.read(next(record for some in dataset.splits.values() for record in some if record.id == "a"))


@pytest.mark.parametrize("number", [0, -1, 2**24, 1.5, "7", None])
def test_segment_numbers_beyond_24_bits_are_refused(tmp_path: Path, number: Any) -> None:
    panoptic(tmp_path, segments=[{"id": number, "category_id": 1}])
    dataset = opened(tmp_path)
    with pytest.raises(DefectError, match="is not a whole number from 1 to 16777215"):
        dataset.masks.read(dataset.split("train")[0])


def test_image_without_segments_is_a_defect(tmp_path: Path) -> None:
    panoptic(tmp_path, annotations=[{"image_id": 0, "file_name": "a.png", "segments_info": SEGMENTS}])
    image(tmp_path / "train2017" / "c.jpg")
    found = defects_of_two(tmp_path)
    assert [(defect.kind, defect.file.name) for defect in found] == [(DefectKind.MISSING_MASK, "b.jpg")]


def defects_of_two(root: Path) -> list[Defect]:
    """With a second split, as one image alone cannot be divided."""
    panoptic(root, "val2017")
    return defects(root)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([{"image_id": 0, "file_name": "../../../a.png", "segments_info": []}], "is outside the dataset"),
        (
            [{"image_id": 0, "file_name": "gone.png", "segments_info": []}],
            r"its PNG files, such as 'gone\.png', are in none",
        ),
        ([{"image_id": 0, "segments_info": []}], "lacks file_name"),
        ([{"image_id": 0, "file_name": "a.png", "segments_info": 5}], "unusable"),
        ([{"image_id": 0, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2]]}], "holds no panoptic segments"),
        (
            [
                {"image_id": 0, "file_name": "a.png", "segments_info": []},
                {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2]]},
            ],
            "split it into two files",
        ),
    ],
)
def test_annotations_that_make_no_masks_are_refused(tmp_path: Path, annotations: Any, message: str) -> None:
    panoptic(tmp_path, annotations=annotations)
    with pytest.raises(DataError, match=rf"panoptic_train2017\.json: .*{message}"):
        opened(tmp_path)


def test_all_segments_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    panoptic(tmp_path, segments=[5, {"id": 70_000, "category_id": 9}, {"id": 5}])
    dataset = opened(tmp_path)
    with pytest.raises(DefectError) as caught:
        dataset.masks.read(dataset.split("train")[0])
    whole, unlisted, without = (defect.detail for defect in caught.value.defects)
    assert "segment id None" in whole
    assert "segment 70000" in unlisted
    assert "has category 9 (category_id), which categories does not list (1, 184)" in unlisted
    assert "segment 5" in without


def test_repeated_images_and_files_are_named_and_the_rest_is_listed(tmp_path: Path) -> None:
    entries = [(0, "a.png"), (0, "b.png"), (1, "a.png")]
    panoptic(
        tmp_path,
        annotations=[{"image_id": id, "file_name": name, "segments_info": SEGMENTS} for id, name in entries],
    )
    found = [(defect.kind, defect.file.name) for defect in defects_of_two(tmp_path)]
    assert found == [
        (DefectKind.REPEATED_ID, "b.png"),
        (DefectKind.REPEATED_ID, "a.png"),
        (DefectKind.MISSING_MASK, "b.jpg"),
    ]


def test_segments_under_another_name_are_refused(tmp_path: Path) -> None:
    panoptic(tmp_path).rename(tmp_path / "annotations" / "train2017.json")
    with pytest.raises(DataError, match=r"train2017\.json: holds panoptic segments; name it panoptic_"):
        opened(tmp_path)
