"""Conversion: what is written is read back equal, is what other programs expect, and survives being killed."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from made_conversions import CLASSES, EXACT, WITHOUT_MAP, ids_of, labels_by_image, random_labels, write_source
from made_geo import write_image, write_turned
from pyramidseg.annotations.contours import one_ring
from pyramidseg.annotations.run_lengths import compress_run_lengths, encode_regions
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.label_writer import LabelledImage
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.writers import LABEL_WRITERS
from pyramidseg.inspection.inspect_dataset import inspect_dataset


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_labels_are_read_back_equal(to: str, source: Path, tmp_path: Path) -> None:
    conversion = convert_dataset(source, to=to, out=tmp_path / "out")
    assert conversion.images == {"train": 4, "val": 1}
    before = ids_of(labels_by_image(open_dataset(source, DataConfig())))
    after = ids_of(labels_by_image(open_dataset(tmp_path / "out", DataConfig())))
    assert after.keys() == before.keys()
    ignored = sum(int((labels == "ignored").sum()) for labels in before.values())
    for key, labels in before.items():
        expected = labels if (to in EXACT) else np.where(labels == "ignored", "background", labels)
        np.testing.assert_array_equal(after[key], expected)
    assert sum(conversion.lost.values()) == (0 if (to in EXACT) else ignored)


@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_an_inspection_of_it_finds_nothing(to: str, source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to=to, out=tmp_path / "out")
    assert [str(defect) for defect in inspect_dataset(tmp_path / "out").defects] == []


@pytest.mark.parametrize("to", LABEL_WRITERS)
def test_an_inspection_finds_nothing_either_if_regions_cover_everything(to: str, tmp_path: Path) -> None:
    """No pixel is then of `background`, the class that formats of outlines add."""
    for split, seed in (("train", 0), ("val", 1)):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 36, 3), np.uint8)
        labels = np.random.default_rng(seed).integers(0, 3, (6, 9), np.uint8).repeat(4, 0).repeat(4, 1)
        write_image(tmp_path / "source" / split / "images" / f"{split}.tif", pixels)
        (tmp_path / "source" / split / "masks").mkdir()
        Image.fromarray(labels).save(tmp_path / "source" / split / "masks" / f"{split}.png")
    (tmp_path / "source" / "dataset.yaml").write_text("classes: [sky, road, car]")
    convert_dataset(tmp_path / "source", to=to, out=tmp_path / "out")
    assert [str(defect) for defect in inspect_dataset(tmp_path / "out").defects] == []


@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_without_background_every_pixel_is_read_back_if_it_is_ignored(to: str, source: Path, tmp_path: Path) -> None:
    (source / "dataset.yaml").write_text("{classes: [sky, road, tree, car], ignore: [255]}")
    convert_dataset(source, to=to, out=tmp_path / "out")
    before = ids_of(labels_by_image(open_dataset(source, DataConfig())))
    ignore = () if to in EXACT else ("background",)
    after = ids_of(labels_by_image(open_dataset(tmp_path / "out", DataConfig(ignore=ignore))))
    for key, labels in before.items():
        np.testing.assert_array_equal(after[key], labels)


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("to", LABEL_WRITERS)
def test_labels_are_read_back_as_images_are_shown(to: str, orientation: int, tmp_path: Path) -> None:
    labels = random_labels(8, 12, seed=orientation)
    shown = (8, 12) if orientation == 3 else (12, 8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for split in ("train", "val"):
        folder = tmp_path / "source" / split
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        stored = np.random.default_rng(len(split)).integers(0, 256, (8, 12, 3), np.uint8)
        if to == "geojson":
            write_turned(folder / "images" / f"{split}.tif", stored, orientation)
        else:
            Image.fromarray(stored).save(folder / "images" / f"{split}.jpg", exif=exif)
        Image.fromarray(labels.reshape(shown)).save(folder / "masks" / f"{split}.png")
    (tmp_path / "source" / "dataset.yaml").write_text(yaml.safe_dump({"classes": list("abcd"), "ignore": [255]}))
    convert_dataset(tmp_path / "source", to=to, out=tmp_path / "out")
    found = ids_of(labels_by_image(open_dataset(tmp_path / "out", DataConfig())))
    holds_ignored = to in (*EXACT, "geojson")
    expected = np.array([*"abcd", *["?"] * 251, "ignored" if holds_ignored else "background"])
    np.testing.assert_array_equal(found["val", "val"], expected[labels.reshape(shown)])


def test_an_unknown_format_is_refused_with_the_nearest(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`to=cocoo`: cannot be written; did you mean 'coco'\?"):
        convert_dataset(source, to="cocoo", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_are_linked_or_left(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to="masks", out=tmp_path / "linked", images="link")
    linked = tmp_path / "linked" / "train" / "images" / "b.png"
    assert linked.samefile(source / "train" / "images" / "b.png")
    convert_dataset(source, to="masks", out=tmp_path / "none", images="none")
    assert not (tmp_path / "none" / "train" / "images").exists()


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_areas_and_boxes_are_those_of_pycocotools(seed: int) -> None:
    generator = np.random.default_rng(seed)
    numbers = generator.integers(0, 4, (generator.integers(1, 40), generator.integers(1, 40)))
    regions = encode_regions(numbers)
    assert set(regions) == set(np.unique(numbers).tolist()) - {0}
    for number, region in regions.items():
        expected = coco_mask.encode(np.asfortranarray(numbers == number, dtype=np.uint8))
        assert compress_run_lengths([region.counts]) == [expected["counts"].decode()]
        assert region.area == coco_mask.area(expected)
        assert list(region.box) == coco_mask.toBbox(expected).tolist()


def test_coco_has_one_annotation_for_each_region(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to="coco", out=tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text(encoding="utf-8"))
    assert [category["name"] for category in content["categories"]] == list(CLASSES[1:])
    assert len({annotation["id"] for annotation in content["annotations"]}) == len(content["annotations"])
    areas = sum(annotation["area"] for annotation in content["annotations"])
    dataset = open_dataset(source, DataConfig())
    labels = [read_labels(record, dataset.masks) for record in dataset.splits["train"]]
    assert areas == sum(int(np.isin(each, [1, 2, 3]).sum()) for each in labels)


@pytest.mark.parametrize("to", ["coco-polygons", "label-studio-polygons"])
def test_only_regions_with_holes_are_not_polygons(to: str, tmp_path: Path) -> None:
    labels = np.zeros((9, 12), np.uint8)
    labels[1:4, 1:5] = 1
    labels[2, 2] = 0
    labels[5:8, 2:4] = labels[6:8, 4:9] = 2
    image = LabelledImage("x", "train", tmp_path / "x.png", labels)
    part = LABEL_WRITERS[to].encode(image, Classes.from_names(["background", "a", "b"])).part
    if to == "coco-polygons":
        holed, plain = (json.loads("{" + text) for text in part["annotations"])
        assert holed["segmentation"]["size"] == [9, 12]
        assert plain["segmentation"] == [[2, 5, 4, 5, 4, 6, 9, 6, 9, 8, 2, 8]]
        assert (holed["area"], plain["area"]) == (11, 16)
        assert plain["bbox"] == [2, 5, 7, 3]
    else:
        holed, plain = json.loads(part)["annotations"][0]["result"]
        assert (holed["type"], plain["type"]) == ("brushlabels", "polygonlabels")
        assert plain["value"]["points"][0] == pytest.approx([100 * 2 / 12, 100 * 5 / 9])
        assert plain["value"]["polygonlabels"] == ["b"] and plain["value"]["closed"]
        assert holed["id"] != plain["id"]


def test_a_cut_reaches_every_hole() -> None:
    outer = np.array([(0, 0), (9, 0), (9, 9), (0, 9)])
    holes = [np.array([(x, 3), (x, 4), (x + 1, 4), (x + 1, 3)]) for x in (2, 6)]
    ring = one_ring([outer, *holes])
    assert len(ring) == 4 + 2 * (4 + 2)
    assert {tuple(point) for point in ring.tolist()} >= {tuple(point) for hole in holes for point in hole.tolist()}


def test_equal_colours_are_replaced(tmp_path: Path) -> None:
    classes = Classes(("a", "b"), ((1, 2, 3), (1, 2, 3)))
    image = LabelledImage("x", "train", tmp_path / "x.png", np.array([[0, 1]], np.uint8))
    (content,) = LABEL_WRITERS["voc"].encode(image, classes).files.values()
    (tmp_path / "mask.png").write_bytes(content)
    with Image.open(tmp_path / "mask.png") as mask:
        assert len(np.unique(np.array(mask)[0], axis=0)) == 2


def region_dataset(root: Path, kind: str) -> Path:
    """Images below folders of their splits; of LabelMe or CVAT."""
    boxes = {"train": {"a": (1, 1, 5, 4), "deep/b": (0, 0, 9, 2)}, "val": {"a": (2, 3, 9, 8), "c": (4, 0, 6, 8)}}
    top = "images/" if kind == "cvat" else ""
    tags: list[str] = []
    for split, names in boxes.items():
        for name, (left, upper, right, lower) in names.items():
            path = root / f"{top}{split}" / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 8)).save(path)
            ring = [(left, upper), (right, upper), (right, lower), (left, lower)]
            if kind == "labelme":
                shapes = [{"label": "fig", "shape_type": "polygon", "points": ring}]
                content = {"imagePath": path.name, "imageHeight": 8, "imageWidth": 10, "shapes": shapes}
                path.with_suffix(".json").write_text(json.dumps(content))
            points = ";".join(f"{x},{y}" for x, y in ring)
            tags.append(
                f'<image id="{len(tags)}" name="{split}/{name}.jpg" width="10" height="8">'
                f'<polygon label="fig" points="{points}"/></image>'
            )
    if kind == "cvat":
        (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{''.join(tags)}</annotations>")
    return root


@pytest.mark.parametrize("kind", ["labelme", "cvat"])
@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_folders_of_splits_are_not_doubled(to: str, kind: str, tmp_path: Path) -> None:
    source = region_dataset(tmp_path / "source", kind)
    before = labels_by_image(open_dataset(source, DataConfig()))
    convert_dataset(source, to=to, out=tmp_path / "out")
    files = [path.relative_to(tmp_path / "out").parts for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [parts for parts in files if max(parts.count("train"), parts.count("val")) > 1]
    dataset = open_dataset(tmp_path / "out", DataConfig())
    after = ids_of(labels_by_image(dataset))
    assert len({(split, record.id) for split, records in dataset.splits.items() for record in records}) == 4
    assert after.keys() == {("train", "a"), ("train", "b"), ("val", "a"), ("val", "c")}
    for key, labels in ids_of(before).items():
        np.testing.assert_array_equal(after[key], labels)
    pixels = {key: int((labels == "fig").sum()) for key, labels in after.items()}
    assert pixels == {("train", "a"): 12, ("train", "b"): 18, ("val", "a"): 35, ("val", "c"): 16}


@pytest.mark.parametrize("to", ["supervisely", "label-studio", "masks"])
def test_names_stay_when_a_conversion_is_converted_again(to: str, source: Path, tmp_path: Path) -> None:
    for name, of in (("once", source), ("via", source), ("again", tmp_path / "via")):
        convert_dataset(of, to="supervisely" if name == "via" else to, out=tmp_path / name)
    once, again = (
        {path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*.png")}
        for name in ("once", "again")
    )
    assert again == {name.replace("deep/", "deep_") for name in once}  # Supervisely has no folders


def test_yolo_is_found_as_ultralytics_looks_for_it(source: Path, tmp_path: Path) -> None:
    """`check_det_dataset` and `img2label_paths`: splits next to data.yaml, labels in the folder for `images`."""
    convert_dataset(source, to="yolo", out=tmp_path / "out")
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text(encoding="utf-8"))
    assert "path" not in content and content["names"] == dict(enumerate(CLASSES[1:]))
    for split, count in (("train", 4), ("val", 1)):
        images = sorted((tmp_path / "out" / content[split]).rglob("*.png"))
        assert len(images) == count
        for image in images:
            labels = Path("/labels/".join(str(image).rsplit("/images/", 1))).with_suffix(".txt")
            numbers = [line.split() for line in labels.read_text().splitlines()]
            assert all(len(line) >= 7 and len(line) % 2 for line in numbers)
            assert all(0 <= float(value) <= 1 for line in numbers for value in line[1:])
