"""Conversion: what is written is read back equal, is what other programs expect, and survives being killed."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from pyramidseg.annotations.run_lengths import compress_run_lengths, encode_regions
from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.data.pairs import read_labels
from pyramidseg.data.records import Dataset
from pyramidseg.formats import convert_dataset as converting
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.label_writer import LabelledImage
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.writers import LABEL_WRITERS
from pyramidseg.formats.yolo_writer import one_ring
from pyramidseg.inspection.inspect_dataset import inspect_dataset

EXACT = ("masks", "color-masks", "voc", "coco-panoptic", "huggingface")
"""Formats of which every class can be read back pixel by pixel, ignored pixels included."""

WITHOUT_MAP = tuple(name for name in LABEL_WRITERS if name != "geojson")
"""Those that need no place on the map; `test_geojson_writer` has the other one."""

CLASSES = ("background", "Straße, wet", "tree", "car")
SIZES = {"a": (9, 14), "b": (8, 8), "deep/c": (5, 9), "d": (30, 21)}


def random_labels(height: int, width: int, *, seed: int) -> NDArray[np.uint8]:
    """Blobs with holes, single pixels, and ignored pixels."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, len(CLASSES), (height // 3 + 1, width // 3 + 1), np.uint8)
    labels = coarse.repeat(3, 0).repeat(3, 1)[:height, :width]
    noise = generator.random((height, width))
    labels = np.where(noise < 0.1, generator.integers(0, len(CLASSES), (height, width)), labels)
    return np.where(noise > 0.95, IGNORE, labels).astype(np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four images in train, and one of the same name in val."""
    folder = tmp_path / "source"
    for number, (split, name) in enumerate([*(("train", name) for name in SIZES), ("val", "a")]):
        height, width = SIZES[name]
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        for kind, content in (("images", pixels), ("masks", random_labels(height, width, seed=number))):
            path = folder / split / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    description = {"classes": list(CLASSES), "ignore": [IGNORE]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(description, allow_unicode=True), encoding="utf-8")
    return folder


def labels_by_image(dataset: Dataset) -> dict[tuple[str, str], NDArray[np.str_]]:
    """Class names by split and name; names that a format gives to pixels without a label are left as they are."""
    names = np.array([*dataset.classes.names, *["?"] * (IGNORE - len(dataset.classes)), "ignored"])
    return {
        (split, record.id.removeprefix(f"{split}/")): names[read_labels(record, dataset.masks)]
        for split, records in dataset.splits.items()
        for record in records
    }


def ids_of(found: dict[tuple[str, str], NDArray[np.str_]]) -> dict[tuple[str, str], NDArray[np.str_]]:
    """The same by file name: formats differ in the folders that are part of an id, or of a name."""
    return {(split, Path(name).name.removeprefix("deep_")): labels for (split, name), labels in found.items()}


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


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_labels_are_written_as_images_are_shown(to: str, orientation: int, tmp_path: Path) -> None:
    labels = random_labels(8, 12, seed=orientation)
    shown = (8, 12) if orientation == 3 else (12, 8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for split in ("train", "val"):
        folder = tmp_path / "source" / split
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        stored = np.random.default_rng(len(split)).integers(0, 256, (8, 12, 3), np.uint8)
        Image.fromarray(stored).save(folder / "images" / f"{split}.jpg", exif=exif)
        Image.fromarray(labels.reshape(shown)).save(folder / "masks" / f"{split}.png")
    (tmp_path / "source" / "dataset.yaml").write_text(yaml.safe_dump({"classes": list("abcd"), "ignore": [255]}))
    convert_dataset(tmp_path / "source", to=to, out=tmp_path / "out")
    found = ids_of(labels_by_image(open_dataset(tmp_path / "out", DataConfig())))
    expected = np.array([*"abcd", *["?"] * 251, "ignored" if (to in EXACT) else "background"])
    np.testing.assert_array_equal(found["val", "val"], expected[labels.reshape(shown)])


class Killed(BaseException):
    pass


@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_a_killed_conversion_continues(to: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_dataset(source, to=to, out=tmp_path / "undisturbed")
    written = []

    def read(record, masks):
        if len(written) == 2:
            raise Killed
        written.append(record.id)
        return read_labels(record, masks)

    monkeypatch.setattr(converting, "read_labels", read)
    monkeypatch.setattr(converting, "map_in_threads", map)
    with pytest.raises(Killed):
        convert_dataset(source, to=to, out=tmp_path / "out")
    monkeypatch.undo()
    for folder in [path for path in (tmp_path / "out").rglob("*") if path.is_dir()]:
        (folder / ".b.png.0123abcd.part").mkdir()  # as SIGKILL leaves it
    assert convert_dataset(source, to=to, out=tmp_path / "out").before == 2
    assert not list((tmp_path / "out").rglob("*.part"))
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_one_that_was_killed_at_its_first_label_continues_too(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder has a label, and nothing in the ledger yet."""

    def write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        raise Killed

    monkeypatch.setattr(converting, "write_bytes", write)
    monkeypatch.setattr(converting, "map_in_threads", map)
    with pytest.raises(Killed):
        convert_dataset(source, to="masks", out=tmp_path / "out")
    monkeypatch.undo()
    assert convert_dataset(source, to="masks", out=tmp_path / "out").before == 0
    convert_dataset(source, to="masks", out=tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_changed_mask_is_converted_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "_assemble", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert_dataset(source, to="masks", out=tmp_path / "out")
    monkeypatch.undo()
    Image.fromarray(np.full(SIZES["b"], 3, np.uint8)).save(source / "train" / "masks" / "b.png")
    assert convert_dataset(source, to="masks", out=tmp_path / "out").before == 4
    with Image.open(tmp_path / "out" / "train" / "masks" / "b.png") as mask:
        assert np.unique(mask).tolist() == [3]


def test_other_content_is_not_touched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(OutputError, match=r"out: is not empty \(thesis.txt\), and not an unfinished conversion"):
        convert_dataset(source, to="masks", out=tmp_path / "out")


@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_a_complete_conversion_is_left_as_it_is(to: str, source: Path, tmp_path: Path, caplog) -> None:
    first = convert_dataset(source, to=to, out=tmp_path / "out")
    before = contents(tmp_path / "out")
    states = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    caplog.set_level("INFO")
    again = convert_dataset(source, to=to, out=tmp_path / "out")
    assert (again.images, again.lost, again.before) == (first.images, first.lost, 5)
    assert "out: already complete" in caplog.text
    assert contents(tmp_path / "out") == before
    assert all(path.stat().st_mtime_ns == state for path, state in states.items())


def test_a_complete_conversion_of_something_else_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to="masks", out=tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=r"out: holds a complete conversion of other files, or with other settings"):
        convert_dataset(source, to="coco", out=tmp_path / "out")
    Image.fromarray(np.full(SIZES["b"], 3, np.uint8)).save(source / "train" / "masks" / "b.png")
    with pytest.raises(OutputError, match=r"choose another --out, or delete the folder"):
        convert_dataset(source, to="masks", out=tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_an_unknown_format_is_refused_with_the_nearest(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--to cocoo: cannot be written; did you mean 'coco'\?"):
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


def test_parts_of_another_version_are_made_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "PARTS_VERSION", 1)
    monkeypatch.setattr(converting, "_assemble", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        convert_dataset(source, to="coco", out=tmp_path / "out")
    monkeypatch.undo()
    assert convert_dataset(source, to="coco", out=tmp_path / "out").before == 0


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
