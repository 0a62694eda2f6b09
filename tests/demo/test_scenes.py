import random
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.errors import ConfigError
from pyramidseg.demo.scenes import SCENE_CLASSES, draw_scene, write_scenes
from pyramidseg.demo.things import BUILDING, BUS, CAR, PAVEMENT, PERSON, ROAD, SKY, TREE


def test_labels_are_positions_in_the_class_list() -> None:
    ids = (SKY, ROAD, PAVEMENT, BUILDING, TREE, CAR, BUS, PERSON)
    names = ("sky", "road", "pavement", "building", "tree", "car", "bus", "person")
    assert tuple(SCENE_CLASSES.names[label] for label in ids) == names
    assert len(SCENE_CLASSES) == len(names)


def test_a_scene_depends_on_seed_and_index_only() -> None:
    first = [draw_scene(index, seed=3, height=64, width=80) for index in range(4)]
    np.random.seed(1)
    random.seed(1)
    again = {index: draw_scene(index, seed=3, height=64, width=80) for index in (2, 0, 3, 1)}
    for index, scene in enumerate(first):
        np.testing.assert_array_equal(scene.image, again[index].image)
        np.testing.assert_array_equal(scene.labels, again[index].labels)


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    draw_scene(0, height=64, width=80)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]


@pytest.mark.parametrize(("index", "seed"), [(1, 0), (0, 1)])
def test_another_index_or_seed_gives_another_scene(index: int, seed: int) -> None:
    assert (draw_scene(0).labels != draw_scene(index, seed=seed).labels).mean() > 0.1


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (240, 320), (97, 301), (301, 97), (480, 640)])
def test_every_size_is_drawn(height: int, width: int) -> None:
    for index in range(6):
        scene = draw_scene(index, height=height, width=width)
        assert scene.image.shape == (height, width, 3)
        assert scene.labels.shape == (height, width)
        assert scene.image.dtype == scene.labels.dtype == np.uint8
        assert scene.image.flags.c_contiguous
        assert scene.labels.flags.c_contiguous
        assert scene.labels.max() < len(SCENE_CLASSES)


@pytest.mark.parametrize(("height", "width"), [(31, 64), (64, 0), (-5, 64)])
def test_a_size_too_small_is_refused(height: int, width: int) -> None:
    with pytest.raises(ConfigError, match=f"scene size {height}x{width}: both sides must be at least 32 pixels"):
        draw_scene(0, height=height, width=width)


@pytest.mark.parametrize(("index", "seed"), [(-1, 0), (0, -1)])
def test_a_negative_index_or_seed_is_refused(index: int, seed: int) -> None:
    with pytest.raises(ConfigError, match="both must be 0 or more"):
        draw_scene(index, seed=seed)


def test_every_class_covers_enough_pixels_to_be_learnt() -> None:
    labels = np.concatenate([draw_scene(index, height=60, width=80).labels.ravel() for index in range(100)])
    shares = np.bincount(labels, minlength=len(SCENE_CLASSES)) / labels.size
    assert shares.min() > 0.01, dict(zip(SCENE_CLASSES.names, shares, strict=True))
    assert shares.max() < 0.4, dict(zip(SCENE_CLASSES.names, shares, strict=True))


def test_the_written_dataset_holds_the_scenes_and_their_classes(tmp_path: Path) -> None:
    description = write_scenes(tmp_path / "made", train=3, val=2, seed=5, height=48, width=64)

    assert description == tmp_path / "made" / "dataset.yaml"
    content = yaml.safe_load(description.read_text(encoding="utf-8"))
    assert content["format"] == "paired"
    assert tuple(entry["name"] for entry in content["classes"]) == SCENE_CLASSES.names
    assert tuple(tuple(entry["color"]) for entry in content["classes"]) == SCENE_CLASSES.colors
    files = {str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*.png")}
    numbers = [("train", 0), ("train", 1), ("train", 2), ("val", 3), ("val", 4)]
    assert files == {f"{split}/{kind}/scene_{n:04d}.png" for split, n in numbers for kind in ("images", "masks")}
    for split, number in numbers:
        scene = draw_scene(number, seed=5, height=48, width=64)
        with Image.open(tmp_path / "made" / split / "images" / f"scene_{number:04d}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), scene.image)
        with Image.open(tmp_path / "made" / split / "masks" / f"scene_{number:04d}.png") as mask:
            assert mask.mode == "L"
            np.testing.assert_array_equal(np.asarray(mask), scene.labels)


def test_a_negative_number_of_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither number can be negative"):
        write_scenes(tmp_path, train=-1, val=2)


def test_colour_and_row_alone_do_not_tell_the_classes() -> None:
    """The scenes must ask for shape and context: a strong classifier of single pixels stays under 0.50 mIoU."""
    from sklearn.ensemble import RandomForestClassifier  # imports for seconds

    classes = len(SCENE_CLASSES)
    features, labels = _pixels(range(40))
    held_out, truth = _pixels(range(40, 60))
    picked = np.random.default_rng(0).choice(len(features), 30_000, replace=False)
    forest = RandomForestClassifier(40, min_samples_leaf=5, n_jobs=1, random_state=0)
    predicted = forest.fit(features[picked], labels[picked]).predict(held_out)
    confusion = np.bincount(truth.astype(np.int64) * classes + predicted, minlength=classes**2)
    confusion = confusion.reshape(classes, classes)
    hits = confusion.diagonal()
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    assert iou.mean() < 0.5, dict(zip(SCENE_CLASSES.names, iou.round(3), strict=True))


def _pixels(indices: range) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """(N, 4) red, green, blue and row of every fourth pixel of some scenes, with (N,) labels."""
    height, width = 96, 128
    row = np.broadcast_to(np.linspace(0, 1, height)[:, None, None], (height, width, 1))
    scenes = [draw_scene(index, height=height, width=width) for index in indices]
    features = [np.concatenate([scene.image / 255, row], -1)[::2, ::2].reshape(-1, 4) for scene in scenes]
    return np.concatenate(features), np.concatenate([scene.labels[::2, ::2].ravel() for scene in scenes])
