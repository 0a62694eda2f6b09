"""Masks as NumPy files: read by their values wherever mask files are, and never unpickled."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from made_files import image, mask, opened, write
from pyramidseg.base.errors import DataError
from pyramidseg.data.pairs import read_labels
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 8, 10


def labels(seed: int = 0, *, classes: int = 3) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, classes, (HEIGHT, WIDTH))


def dataset(
    root: Path, *arrays: NDArray[np.generic], masks: str = "masks/{}.npy", images: str = "images/{}.jpg"
) -> Path:
    for number, values in enumerate(arrays):
        image(root / images.format(number), height=HEIGHT, width=WIDTH)
        path = root / masks.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values) if path.suffix == ".npy" else np.savez_compressed(path, mask=values)
    return root


def read(root: Path, **settings: object) -> dict[str, NDArray[np.uint8]]:
    """Labels by the name of the image."""
    found = opened(root, **settings)
    return {
        record.image.stem: read_labels(record, found.masks) for records in found.splits.values() for record in records
    }


@pytest.mark.parametrize("kind", ["u1", "<i2", ">i4", "<i8", ">u8", "<f4", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_whole_numbers_of_any_type_are_the_classes(kind: str, order: str, tmp_path: Path) -> None:
    arrays = [np.asarray(labels(seed).astype(kind), order=order) for seed in range(3)]
    found = read(dataset(tmp_path, *arrays))
    assert [np.array_equal(found[str(seed)], labels(seed)) for seed in range(3)] == [True] * 3


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH, 1), (1, HEIGHT, WIDTH), (1, 1, HEIGHT, WIDTH)])
def test_axes_of_length_one_are_left_out(shape: tuple[int, ...], tmp_path: Path) -> None:
    found = read(dataset(tmp_path, *(labels(seed).reshape(shape) for seed in range(2))))
    np.testing.assert_array_equal(found["1"], labels(1))


def test_booleans_are_two_classes(tmp_path: Path) -> None:
    found = read(dataset(tmp_path, labels(0) > 0, labels(1) > 0))
    np.testing.assert_array_equal(found["1"], labels(1) > 0)


@pytest.mark.parametrize(
    ("masks", "images"),
    [
        ("masks/{}.npz", "images/{}.jpg"),
        ("labels/mask_{}.npy", "images/img_{}.png"),
        ("{}.npy", "{}.png"),
        ("all/{}_mask.npy", "all/{}.jpg"),
        ("SegmentationClass/{}.npy", "JPEGImages/{}.jpg"),
        ("SegmentationClassNpy/{}.npy", "JPEGImages/{}.jpg"),
    ],
)
def test_they_are_found_where_masks_are(masks: str, images: str, tmp_path: Path) -> None:
    arrays = [labels(seed) for seed in range(3)]
    write(tmp_path / "class_names.txt", "background\nfig\ntree\n")
    dataset(tmp_path, *arrays, masks=masks, images=images)
    settings = {} if not masks.startswith("all") else {"train": "all"}
    if settings:
        write(tmp_path / "dataset.yaml", "train: all\n")
    found = read(tmp_path / "dataset.yaml" if settings else tmp_path)
    assert [int((found[Path(images.format(seed)).stem] == 2).sum()) for seed in range(3)] == [
        int((array == 2).sum()) for array in arrays
    ]


def test_lists_name_them(tmp_path: Path) -> None:
    dataset(tmp_path, *(labels(seed) for seed in range(3)), masks="gt/{}.npy", images="photos/{}.jpg")
    write(tmp_path / "train_list.txt", "photos/0.jpg gt/1.npy\nphotos/1.jpg gt/0.npy\n")
    write(tmp_path / "val_list.txt", "photos/2.jpg gt/2.npy\n")
    found = read(tmp_path)
    assert [np.array_equal(found[name], labels(seed)) for name, seed in (("0", 1), ("1", 0), ("2", 2))] == [True] * 3


def test_a_mask_of_each_class(tmp_path: Path) -> None:
    for number in range(2):
        image(tmp_path / "images" / f"{number}.jpg", height=HEIGHT, width=WIDTH)
        for index, name in enumerate(("fig", "tree"), start=1):
            (tmp_path / "masks" / name).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "masks" / name / f"{number}.npy", labels(number) == index)
    found = read(tmp_path, mask_name="{class}/{stem}")
    np.testing.assert_array_equal(found["1"], labels(1))


def test_minus_one_is_ignored_as_labelme2voc_means_it(tmp_path: Path) -> None:
    arrays = [labels(seed).astype(np.int32) for seed in range(2)]
    for array in arrays:
        array[:2] = -1
    found = read(dataset(tmp_path, *arrays))
    np.testing.assert_array_equal(found["0"], np.where(arrays[0] == -1, 255, arrays[0]))


def test_other_negative_numbers_have_to_be_ignored_by_a_setting(tmp_path: Path) -> None:
    arrays = [labels(seed) for seed in range(2)]
    arrays[0][0] = -100
    dataset(tmp_path, *arrays)
    with pytest.raises(DataError, match=r"mask values -100 .*\(data.ignore=\[-100\]\)"):
        check_dataset(opened(tmp_path))
    found = read(tmp_path, ignore=[-100])
    np.testing.assert_array_equal(found["0"], np.where(arrays[0] == -100, 255, arrays[0]))


def test_nan_is_ignored_by_a_setting(tmp_path: Path) -> None:
    arrays = [labels(seed).astype(np.float32) for seed in range(2)]
    arrays[1][3] = np.nan
    with pytest.raises(DataError, match=r"data.ignore=nodata"):
        check_dataset(opened(dataset(tmp_path, *arrays)))
    assert (read(tmp_path, ignore=["nodata"])["1"] == 255).sum() == WIDTH


def test_a_threshold_divides_them(tmp_path: Path) -> None:
    grey = [np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), np.uint8) for seed in range(2)]
    found = read(dataset(tmp_path, *grey), threshold=128)
    np.testing.assert_array_equal(found["1"], grey[1] >= 128)


def test_image_files_come_first_and_half_of_each_is_refused(tmp_path: Path) -> None:
    dataset(tmp_path, *(labels(seed) for seed in range(3)))
    for number in range(2):
        mask(tmp_path / "masks" / f"{number}.png", 0, 1)
    with pytest.raises(DataError, match=r"1 masks, such as 2.npy, are of a type that is not read next to image files"):
        opened(tmp_path)
    mask(tmp_path / "masks" / "2.png", 0, 1)
    assert opened(tmp_path).splits["train"][0].mask.suffix == ".png"


class Trap:
    """Calls `sys.exit` when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return exit, ("unpickled",)


def saved(values: object, **options: object) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode()


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in members.items():
            content.writestr(name.replace("_npy", ".npy"), data)
    return file.getvalue()


HOSTILE = {
    "pickled objects": (saved(np.array([[Trap()]], object)), "pickled Python objects, which are not loaded"),
    "a pickle": (pickle.dumps(Trap()), "cannot be read as an image: the magic string is not correct"),
    "named fields": (saved(np.zeros((8, 10), "u1,u2")), "values of type"),
    "text": (saved(np.full((8, 10), "a")), "values of type <U1"),
    "complex numbers": (saved(np.zeros((8, 10), complex)), "values of type complex128"),
    "one axis": (saved(np.zeros(80, np.uint8)), r"a mask is \(height, width\), .* this array is \(80,\)"),
    "one-hot planes": (saved(np.zeros((3, 8, 10), np.uint8)), r"is \(3, 8, 10\); of probabilities .* save argmax"),
    "no pixels": (saved(np.zeros((0, 10), np.uint8)), r"is \(0, 10\)"),
    "fractions": (saved(np.full((8, 10), 0.3)), "mask value 0.3 is not a whole number"),
    "another size": (saved(np.zeros((9, 10), np.uint8)), r"the mask is 9 x 10 pixels"),
    "an empty file": (b"", "cannot be read|is empty"),
    "truncated": (saved(np.zeros((8, 10)))[:-9], "its header says 8 x 10 values of float64"),
    "a billion pixels": (
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        "1000000 x 1000000 pixels",
    ),
    "many pixels": (
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (9999, 9999), }"),
        "its header says 9999 x 9999 values of float64",
    ),
    "a long header": (header(f"{{'descr': '|u1', 'shape': ({'1,' * 20000}), }}"), "cannot be read as an image"),
    "a header of code": (header("__import__('os').system('false')"), "cannot be read as an image"),
    "an unknown version": (header("", b"\x09\x00"), "has the header of an array with named fields|cannot be read"),
    "two arrays": (archive(a_npy=saved(labels()), b_npy=saved(labels())), r"holds 2 arrays \('a', 'b'\)"),
    "no array": (archive(a=b"x"), r"holds 0 arrays \(none\)"),
    "objects in an archive": (archive(a_npy=saved(np.array([[Trap()]], object))), "pickled Python objects"),
    "a truncated member": (archive(a_npy=saved(np.zeros((8, 10)))[:-9]), "its header says 8 x 10"),
    "a PNG": (b"\x89PNG\r\n\x1a\n", "cannot be read as an image: the magic string"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_hostile_files_are_refused_in_one_line(kind: str, ending: str, tmp_path: Path) -> None:
    dataset(tmp_path, *(labels(seed) for seed in range(3)), masks=f"masks/{{}}{ending}")
    content, message = HOSTILE[kind]
    file = tmp_path / "masks" / f"1{ending}"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        check_dataset(opened(tmp_path))
    assert "\n" not in str(caught.value)
    assert file.name in str(caught.value)
    assert file in {defect.file for defect in inspect_dataset(tmp_path).defects}
