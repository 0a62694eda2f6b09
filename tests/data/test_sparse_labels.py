"""Crops of sparsely labelled images are placed where labels are."""

import numpy as np
import pytest

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.classes import IGNORE
from pyramidseg.data.transforms import Augmentation

IMAGE = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)


def labelled_crops(labels: np.ndarray, **given: object) -> float:
    """Share of the crops that show a label."""
    settings = AugmentationConfig(crop=(48, 64), **given)  # type: ignore[arg-type]
    augmentation = Augmentation(settings, (100, 100))
    crops = (
        augmentation(IMAGE, labels, np.random.default_rng(seed), other=lambda _: (IMAGE, labels))[1]
        for seed in range(40)
    )
    return float(np.mean([(crop != IGNORE).any() for crop in crops]))


def with_area(*areas: tuple[slice, slice]) -> np.ndarray:
    labels = np.full(IMAGE.shape[:2], IGNORE, np.uint8)
    for number, area in enumerate(areas):
        labels[area] = number
    return labels


SCRIBBLE = with_area((slice(20, 24), slice(10, 40)), (slice(200, 204), slice(250, 280)))
POINT = with_area((slice(238, 239), slice(1, 2)))
CORNER = with_area((slice(0, 100), slice(0, 100)))


@pytest.mark.parametrize("labels", [SCRIBBLE, CORNER], ids=["scribbles", "a labelled corner"])
@pytest.mark.parametrize(
    "given",
    [
        {"augment": "none"},
        {"augment": "default"},
        {"augment": "aerial"},
        {"augment": "default", "rotation": 20.0, "shear": 5.0},
        {"augment": "default", "rare_class_crops": 0.5},
    ],
    ids=["none", "default", "aerial", "turned", "rare classes"],
)
def test_every_crop_shows_a_label(labels: np.ndarray, given: dict[str, object]) -> None:
    assert labelled_crops(labels, **given) == 1


def test_a_single_point_is_found_unless_shrinking_drops_it() -> None:
    assert labelled_crops(POINT, augment="none") == 1


def test_positions_around_the_labels_vary() -> None:
    settings, middle = AugmentationConfig(crop=(48, 64), augment="none"), with_area((slice(120, 121), slice(160, 161)))
    places = {
        tuple(np.argwhere(Augmentation(settings)(IMAGE, middle, np.random.default_rng(seed), other=None)[1] == 0)[0])  # type: ignore[arg-type]
        for seed in range(30)
    }
    assert len(places) > 20


def test_images_that_are_labelled_for_the_most_part_are_cropped_as_before() -> None:
    settings = AugmentationConfig(crop=(48, 64), augment="default")
    whole = np.zeros(IMAGE.shape[:2], np.uint8)
    most = whole.copy()
    most[:110] = IGNORE
    for seed in range(5):
        crops = [
            Augmentation(settings)(IMAGE, labels, np.random.default_rng(seed), other=lambda _: (IMAGE, whole))[0]
            for labels in (whole, most)
        ]
        assert np.array_equal(*crops)
    assert labelled_crops(with_area((slice(110, 240), slice(0, 320))), augment="none") < 1


def test_an_image_without_labels_is_cropped_anywhere() -> None:
    assert labelled_crops(np.full(IMAGE.shape[:2], IGNORE, np.uint8), augment="default") == 0
