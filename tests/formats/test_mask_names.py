"""Names of masks that follow from their images': inferred, asked about, and stated by `mask_name`."""

from pathlib import Path

import pytest

from made_files import image, mask, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError

PIXELS = 12


def draw(path: Path, ones: int) -> None:
    mask(path, *[1] * ones, *[0] * (PIXELS - ones))


def foreground(dataset: Dataset) -> dict[str, int]:
    """Pixels of class 1 by the name of the image's file."""
    return {
        record.image.name: int((dataset.masks.read(record) == 1).sum())
        for records in dataset.splits.values()
        for record in records
    }


def layout(root: Path, image_name: str, *mask_names: str) -> dict[str, int]:
    """Images 1 to 3, each with a mask of so many pixels, or 4 more in the second kind of masks, and 8 in the third."""
    for n in (1, 2, 3):
        image(root / image_name.format(n))
        for kind, name in enumerate(mask_names):
            draw(root / name.format(n), n + 4 * kind)
    return {Path(image_name.format(n)).name: n for n in (1, 2, 3)}


ONE_READING = [
    ("images/img_00{}.jpg", "masks/mask_00{}.png"),
    ("images/{}.ome.tif", "masks/{}.png"),
    ("images/{}.ome.tif", "masks/{}_seg.ome.tif"),
    ("images/{}.jpg", "masks/{}.jpg.png"),
    ("images/cell{}.png", "masks/cell{}_cp_masks.png"),
    ("images/{}.jpg", "masks/{}_color_mask.png"),
    ("images/2{}_training.tif", "masks/2{}_manual1.gif"),
    ("images/{}.png", "masks/00{}.png"),
    ("images/{}.png", "masks/{}/labels.png"),
    ("images/day {}.jpg", "masks/truth of day {}.png"),
    ("JPEGImages/{}.jpg", "SegmentationClass/{}_mask.png"),
    ("JPEGImages/{}.jpg", "SegmentationClass/sub/{}.png"),
    # In one folder
    ("img_{}.png", "mask_{}.png"),
    ("{}.jpg", "mask_{}.png"),
    ("{}.png", "{}_cp_masks.png"),
    ("{}.png", "{}_Mask.png"),
    ("a{}_img.png", "a{}_color_mask.png"),
    ("{}.jpg", "gt_00{}.png"),
    ("im00{}.png", "mask00{}.png"),
    ("{}.png", "GT{}.png"),
    ("day {}.png", "day {} mask.png"),
    ("a{}.png", "a{}.label.png"),
]


@pytest.mark.parametrize(("image_name", "mask_name"), ONE_READING)
def test_one_reading_is_taken(tmp_path: Path, image_name: str, mask_name: str) -> None:
    expected = layout(tmp_path, image_name, mask_name)
    dataset = opened(tmp_path)
    assert foreground(dataset) == expected
    assert any("paired by their names" in note or "masks are named" in note for note in dataset.notes)


SEVERAL_READINGS = [
    ("images/a{}.jpg", ("masks/a{}_mask.png", "masks/a{}_edge.png")),
    ("images/a{}.jpg", ("masks/a{}.png", "masks/a{}_edge.png")),
    ("images/a{}.jpg", ("masks/fine_a{}.png", "masks/coarse_a{}.png")),
    ("images/img_{}.jpg", ("masks/mask_{}.png", "masks/edge_{}.png")),
    ("images/{}_training.tif", ("masks/{}_manual1.gif", "masks/{}_manual2.gif")),
    ("images/{}.jpg", ("masks/00{}_a.png", "masks/00{}_b.png")),
    ("images/{}.jpg", ("masks/{}.jpg.png", "masks/{}_weak.jpg.png")),
    ("images/a{}.jpg", ("masks/ann1/a{}.png", "masks/ann2/a{}.png", "masks/ann3/a{}.png")),
    ("JPEGImages/a{}.jpg", ("SegmentationClass/a{}_x.png", "SegmentationClass/a{}_y.png")),
    # In one folder
    ("a{}.jpg", ("a{}_mask.png", "a{}_edge.png")),
    ("a{}.png", ("a{}_mask.png", "a{}_label.png", "a{}_edge.png")),
    ("a{}.jpg", ("a{}_mask.png", "a{}_color_mask.png")),
    ("a{}.jpg", ("a{}.png", "a{}_edge.png")),
]


def readings(error: AmbiguousDatasetError, *, by_class: bool = False) -> list[str]:
    """The lines of each alternative, ready to paste: those of one mask an image, or that of a mask for each class."""
    lines = [line.removeprefix("# ") + "\n" for line in error.suggestion.split("\n")]
    return [line for line in lines if line.startswith("mask_name: ") and ("{class}" in line) is by_class]


@pytest.mark.parametrize(("image_name", "mask_names"), SEVERAL_READINGS)
def test_of_several_readings_each_line_leads_to_its_masks(
    tmp_path: Path, image_name: str, mask_names: tuple[str, ...]
) -> None:
    expected = layout(tmp_path, image_name, *mask_names)
    with pytest.raises(AmbiguousDatasetError, match="several masks") as refusal:
        opened(tmp_path)
    with pytest.raises(AmbiguousDatasetError, match="several masks"):
        open_with_defects(tmp_path, DataConfig())
    for line in readings(refusal.value, by_class=True):
        file = write(tmp_path / "dataset.yaml", line)
        assert len(opened(tmp_path).classes) == 1 + len(mask_names)
        file.unlink()
    lines = readings(refusal.value)
    found = []
    for line in lines:
        file = write(tmp_path / "dataset.yaml", line)
        dataset = opened(tmp_path)
        assert any("left out" in note for note in dataset.notes)
        found.append({name: pixels - expected[name] for name, pixels in foreground(dataset).items()})
        file.unlink()
    kinds = [dict.fromkeys(expected, 4 * kind) for kind in range(len(mask_names))]
    assert len(found) == len(kinds)
    assert all(kind in found for kind in kinds)


def test_mask_name_applies_to_each_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        layout(tmp_path / split, f"images/{split}{{}}.jpg", f"masks/{split}{{}}.png", f"masks/{split}{{}}_x.png")
    counts = foreground(opened(tmp_path, mask_name="{stem}_x"))
    assert counts == {f"{split}{n}.jpg": n + 4 for split in ("train", "val") for n in (1, 2, 3)}


def test_mask_name_pairs_the_folders_of_a_yaml_file(tmp_path: Path) -> None:
    layout(tmp_path, "photos/a{}.jpg", "truth/a{}_x.png", "truth/a{}_y.png")
    file = write(tmp_path / "mine.yaml", "train: {images: photos, masks: truth}\n")
    with pytest.raises(AmbiguousDatasetError, match="several masks") as refusal:
        opened(file)
    for kind, line in enumerate(readings(refusal.value)):
        write(file, "train: {images: photos, masks: truth}\n" + line)
        assert foreground(opened(file)) == {f"a{n}.jpg": n + 4 * kind for n in (1, 2, 3)}
    layout(tmp_path / "photos", "a{}.jpg", "a{}-7.png")  # one folder of both, in which no known suffix is
    write(file, 'train: {images: photos, masks: photos}\nmask_name: "{stem}-7.png"\n')
    assert foreground(opened(file)) == {f"a{n}.jpg": n for n in (1, 2, 3)}


def test_mask_name_applies_to_segnets_layout(tmp_path: Path) -> None:
    layout(tmp_path, "train/a{}.png", "trainannot/a{}_L.png", "trainannot/a{}_P.png")
    with pytest.raises(AmbiguousDatasetError, match="several masks"):
        opened(tmp_path, classes=["a", "b"])
    dataset = opened(tmp_path, mask_name="{stem}_P", classes=["a", "b"])
    assert foreground(dataset) == {f"a{n}.png": n + 4 for n in (1, 2, 3)}


@pytest.mark.parametrize("lost", ["images/img_2.jpg", "masks/mask_2.png"])
def test_a_file_without_partner_is_a_defect_where_names_have_affixes(tmp_path: Path, lost: str) -> None:
    layout(tmp_path, "images/img_{}.jpg", "masks/mask_{}.png")
    (tmp_path / lost).unlink()
    _, defects = open_with_defects(tmp_path, DataConfig())
    partner = {"images/img_2.jpg": "masks/mask_2.png"}.get(lost, "images/img_2.jpg")
    assert [defect.file for defect in defects] == [tmp_path / partner]


def test_an_image_without_a_mask_of_the_stated_name_is_a_defect(tmp_path: Path) -> None:
    layout(tmp_path, "images/a{}.jpg", "masks/a{}_x.png", "masks/a{}_y.png")
    (tmp_path / "masks" / "a2_x.png").unlink()
    with pytest.raises(DataError, match=r"a2\.jpg: no mask of this name"):
        opened(tmp_path, mask_name="{stem}_x")


def test_a_name_that_no_mask_has_is_one_line_with_an_example_of_each_side(tmp_path: Path) -> None:
    layout(tmp_path, "images/a{}.jpg", "masks/a{}_x.png")
    expected = r"3 masks, such as a1_x\.png, agrees in its name \(\{stem\}_z\) with one of the 3 images .* a1\.jpg"
    with pytest.raises(DataError, match=expected) as refusal:
        opened(tmp_path, mask_name="{stem}_z")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["_seg", "{stem}{stem}", "{name}_seg", ""])
def test_mask_name_needs_the_stem_once(tmp_path: Path, name: str) -> None:
    layout(tmp_path, "images/a{}.jpg", "masks/a{}_x.png")
    with pytest.raises(ConfigError, match=r"has to contain \{stem\} once"):
        opened(write(tmp_path / "mine.yaml", f'mask_name: "{name}"\n'))


def test_mask_name_without_effect_is_refused(tmp_path: Path) -> None:
    pairs(tmp_path / "a", tmp_path / "b", ["1", "2"])
    write(tmp_path / "train.txt", "a/1.jpg b/1.png\n")
    write(tmp_path / "val.txt", "a/2.jpg b/2.png\n")
    with pytest.raises(ConfigError, match=r"mask_name=\{stem\}_x: lists name the masks here; leave it out"):
        opened(tmp_path, mask_name="{stem}_x")


def test_mask_name_next_to_lists_of_voc_is_refused(tmp_path: Path) -> None:
    layout(tmp_path, "JPEGImages/a{}.jpg", "SegmentationClass/a{}.png")
    write(tmp_path / "ImageSets" / "Segmentation" / "train.txt", "a1\na2\na3\n")
    with pytest.raises(ConfigError, match=r"mask_name=\{stem\}_x: lists name the masks here; leave it out"):
        opened(tmp_path, mask_name="{stem}_x")
    assert foreground(opened(tmp_path)) == {f"a{n}.jpg": n for n in (1, 2, 3)}


@pytest.mark.parametrize("names", [("{}_L.png", "{}_R.png"), ("{}.jpg", "{}_2.jpg"), ("left_{}.png", "right_{}.png")])
def test_photographs_in_pairs_are_no_masks(tmp_path: Path, names: tuple[str, str]) -> None:
    for n in (1, 2, 3):
        for name in names:
            image(tmp_path / name.format(n))
    with pytest.raises(DataError, match="not recognised as a dataset"):
        opened(tmp_path)


def test_a_run_states_the_name_for_later(tmp_path: Path) -> None:
    layout(tmp_path, "images/a{}.jpg", "masks/a{}_x.png", "masks/a{}_y.png")
    assert opened(tmp_path, mask_name="{stem}_y").description["mask_name"] == "{stem}_y"


@pytest.mark.parametrize("place", ["{}/{}", "{1}/{0}"])
@pytest.mark.parametrize("name", ["dev", "eval"])
def test_mask_name_applies_to_a_val_split_of_a_rarer_name(tmp_path: Path, place: str, name: str) -> None:
    for split, stem in (("train", "a"), (name, "b")):
        folders = [place.format(split, kind) for kind in ("images", "masks")]
        layout(
            tmp_path, f"{folders[0]}/{stem}{{}}.jpg", f"{folders[1]}/{stem}{{}}_x.png", f"{folders[1]}/{stem}{{}}_y.png"
        )
    if name == "eval":  # which is not always a split
        with pytest.raises(DataError, match=r"name the splits in a YAML file \(train: train, val: eval\)"):
            opened(tmp_path, mask_name="{stem}_y")
        write(tmp_path / "dataset.yaml", "train: train\nval: eval\n")
    dataset = opened(tmp_path, mask_name="{stem}_y")
    assert foreground(dataset) == {f"{letter}{n}.jpg": n + 4 for letter in "ab" for n in (1, 2, 3)}
    assert [record.id for record in dataset.splits["val"]] == ["b1", "b2", "b3"]


def test_several_masks_in_a_val_split_of_a_rarer_name_are_asked_about(tmp_path: Path) -> None:
    layout(tmp_path, "train/images/a{}.jpg", "train/masks/a{}_x.png")
    layout(tmp_path, "dev/images/b{}.jpg", "dev/masks/b{}_x.png", "dev/masks/b{}_y.png")
    with pytest.raises(AmbiguousDatasetError, match="dev/masks: images have several masks") as refusal:
        opened(tmp_path)
    write(tmp_path / "dataset.yaml", readings(refusal.value)[0])
    dataset = opened(tmp_path)
    assert foreground(dataset) == {f"{letter}{n}.jpg": n for letter in "ab" for n in (1, 2, 3)}
    assert len(dataset.splits["val"]) == 3


def test_masks_named_after_label_studios_tasks_are_refused_with_the_export_to_choose(tmp_path: Path) -> None:
    layout(tmp_path, "images/a{}.jpg", "masks/task-{}-annotation-7-by-1-tag-car-0.png")
    with pytest.raises(DataError, match="named after Label Studio's tasks, not after images: export JSON"):
        opened(tmp_path)
