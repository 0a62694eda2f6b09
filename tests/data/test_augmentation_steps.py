"""Each step of augmentation by itself: what it does to image and labels, and that it changes nothing when it is off."""

from typing import Any

import cv2
import numpy as np
import pytest

from pyramidseg.base.augmentation_config import AUGMENTATIONS, AugmentationConfig
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.overrides import expand_presets, given_settings, load_config
from pyramidseg.data.transforms import Augmentation, random_turned_crop, unused_steps
from pyramidseg.demo.scenes import draw_scene

SCENE = draw_scene(3, height=120, width=160)


def augmented(seed: int = 0, *, other: Any = SCENE, **given: Any) -> tuple[np.ndarray, np.ndarray]:
    """A scene after the given steps alone."""
    settings = AugmentationConfig.model_validate({"augment": "none", "crop": (120, 160), **given})
    augmentation = Augmentation(settings, tuple(np.bincount(SCENE.labels.ravel(), minlength=8)[:8].tolist()))
    return augmentation(SCENE.image, SCENE.labels, np.random.default_rng(seed), other=lambda draw: tuple(other))


def test_nothing_changes_nothing() -> None:
    image, labels = augmented()
    assert np.array_equal(image, SCENE.image)
    assert np.array_equal(labels, SCENE.labels)


def test_a_step_draws_nothing_when_it_is_off() -> None:
    """So that runs of before a step was added are repeated bit for bit."""
    default = AugmentationConfig(crop=(64, 64))
    rng = np.random.default_rng(7)
    Augmentation(default)(SCENE.image, SCENE.labels, rng, other=lambda _: tuple(SCENE))
    replay = np.random.default_rng(7)
    replay.uniform(size=1), replay.integers(0, 10, size=2), replay.random(), replay.uniform(size=3)
    kinds = [rng.bit_generator.state["state"]["state"], replay.bit_generator.state["state"]["state"]]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize(
    ("given", "turned"),
    [
        ({"flip": 1}, lambda array: array[:, ::-1]),
        ({"vertical_flip": 1}, lambda array: array[::-1]),
        ({"flip": 1, "vertical_flip": 1}, lambda array: np.rot90(array, 2)),
    ],
)
def test_flips(given: dict[str, float], turned: Any) -> None:
    image, labels = augmented(**given)
    assert np.array_equal(image, turned(SCENE.image))
    assert np.array_equal(labels, turned(SCENE.labels))


def test_quarter_turns_of_a_crop_that_is_not_square() -> None:
    turns = set()
    for seed in range(24):
        image, labels = augmented(seed, quarter_turns=1, crop=(48, 100), scale=(1.0, 1.0))
        assert image.shape == (48, 100, 3)
        for turn in (1, 2, 3):
            back = np.rot90(image, -turn)
            score = (
                cv2.matchTemplate(SCENE.image, np.ascontiguousarray(back), cv2.TM_SQDIFF).min()
                if (back.shape[0] <= 120 and back.shape[1] <= 160)
                else 1
            )
            if score == 0:
                turns.add(turn)
                assert set(np.unique(labels)) <= set(np.unique(SCENE.labels))
    assert turns == {1, 2, 3}


@pytest.mark.parametrize(("angle", "shear"), [(0.0, 0.0), (0.3, 0.0), (-0.5, 0.2), (0.0, -0.6)])
def test_a_turned_crop_is_full_and_aligned(angle: float, shear: float) -> None:
    """From a large image no pixel is from outside, and labels turn with the image."""
    labels = (np.add.outer(np.arange(400) // 25, np.arange(400) // 25) % 8).astype(np.uint8)
    image = np.repeat((labels * 10)[:, :, None], 3, axis=2)
    crop, crop_labels = random_turned_crop(image, labels, 1.0, (90, 120), angle, shear, np.random.default_rng(0))
    assert crop.shape == (90, 120, 3)
    assert IGNORE not in crop_labels
    agree = np.abs(crop[:, :, 0].astype(int) - 10 * crop_labels.astype(int)) <= 6
    assert agree.mean() > 0.85
    if not angle and not shear:
        assert agree.all()


def test_a_quarter_as_a_rotation_is_the_quarter_turn() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    labels = image[:, :, 0] % 5
    crop, turned = random_turned_crop(image, labels, 1.0, (64, 64), np.pi / 2, 0.0, np.random.default_rng(0))
    inside = turned != IGNORE
    assert inside.mean() > 0.9
    assert any(
        (np.rot90(labels, turns)[inside] == turned[inside]).mean() > 0.99
        and np.abs(np.rot90(image, turns)[inside].astype(int) - crop[inside]).mean() < 1
        for turns in (1, 3)
    )


def test_a_turned_crop_of_a_rare_class_keeps_it() -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels[20:25, 150:155] = 1
    image = np.zeros((200, 200, 3), np.uint8)
    settings = AugmentationConfig(crop=(64, 64), rotation=20, shear=10, rare_class_crops=1)
    augmentation = Augmentation(settings, (10**9, 1))
    drawn = [augmentation(image, labels, np.random.default_rng(seed), other=lambda _: 1 / 0)[1] for seed in range(60)]
    assert all((crop == 1).any() for crop in drawn)


def test_pixels_from_outside_are_ignored() -> None:
    _, labels = augmented(crop=(200, 260), rotation=30)
    assert (labels == IGNORE).sum() > 200 * 260 - 120 * 160 - 2000


def test_cutout_fills_and_ignores_one_rectangle() -> None:
    image, labels = augmented(cutout=1)
    rows, columns = np.nonzero(labels == IGNORE)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert len(rows) == height * width
    assert 12 <= height <= 60
    assert 16 <= width <= 80
    assert len(np.unique(image[labels == IGNORE], axis=0)) == 1
    assert np.array_equal(image[labels != IGNORE], SCENE.image[labels != IGNORE])


def test_copy_paste_takes_one_class_with_its_pixels() -> None:
    other = draw_scene(9, height=120, width=160)
    pasted = set()
    for seed in range(6):
        image, labels = augmented(seed, other=other, copy_paste=1)
        changed = labels != SCENE.labels
        found = np.unique(labels[changed])
        assert len(found) <= 1
        if found.size:
            class_id = int(found[0])
            pasted.add(class_id)
            inside = other.labels == class_id
            assert (labels[inside] == class_id).all()
            assert np.array_equal(image[inside], other.image[inside])
            assert np.array_equal(image[~inside], SCENE.image[~inside])
    assert pasted


def test_an_image_of_another_type_is_not_pasted() -> None:
    other = (SCENE.image.astype(np.uint16), np.full_like(SCENE.labels, 1))
    image, labels = augmented(other=other, copy_paste=1)
    assert np.array_equal(labels, SCENE.labels)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("step", ["gamma", "grey", "blur", "noise", "jpeg"])
def test_looks_change_the_image_a_little_and_no_label(step: str) -> None:
    image, labels = augmented(2, **{step: 1 if step != "gamma" else 0.3})
    assert np.array_equal(labels, SCENE.labels)
    difference = np.abs(image.astype(int) - SCENE.image.astype(int)).mean()
    assert 0.2 < difference < 60
    assert image.dtype == np.uint8
    if step == "grey":
        assert np.ptp(image, axis=2).max() <= 1


def test_gamma_keeps_black_and_the_brightest() -> None:
    image, _ = augmented(1, gamma=0.5)
    assert image.max() == SCENE.image.max()
    assert (image[SCENE.image == 0] == 0).all()


@pytest.mark.parametrize(
    ("dtype", "channels", "unused"),
    [
        (np.uint8, 3, []),
        (np.uint8, 1, ["data.grey"]),
        (np.uint16, 4, ["data.grey", "data.jpeg"]),
        (np.float32, 3, ["data.gamma", "data.grey", "data.jpeg"]),
    ],
)
def test_steps_without_effect_are_named(dtype: type, channels: int, unused: list[str]) -> None:
    assert unused_steps(AugmentationConfig(augment="strong"), np.dtype(dtype), channels) == unused


class TestWords:
    """data.augment sets what is not given itself."""

    def test_default_is_what_the_single_settings_are(self) -> None:
        default = AugmentationConfig()
        assert AugmentationConfig(augment="default") == default

    def test_every_word_is_a_choice(self) -> None:
        for word in AUGMENTATIONS:
            assert AugmentationConfig.model_validate({"augment": word}).augment == word

    def test_a_given_setting_stays_in_any_order(self) -> None:
        for given in ({"data.flip": "0", "data.augment": "aerial"}, {"data.augment": "aerial", "data.flip": "0"}):
            data = load_config(None, given).data
            assert (data.flip, data.vertical_flip, data.quarter_turns) == (0, 0.5, 0.75)

    def test_a_word_on_the_command_line_goes_before_a_file(self, tmp_path: Any) -> None:
        """The file of an earlier run has a value for every setting."""
        file = tmp_path / "config.yaml"
        file.write_text(load_config(None, {"data.augment": "strong"}).to_yaml())
        assert load_config(file).data.rotation == 10
        data = load_config(file, {"data.augment": "none"}).data
        assert (data.rotation, data.scale, data.flip) == (0, (1, 1), 0)

    def test_a_setting_in_a_file_goes_before_the_word_in_the_file(self, tmp_path: Any) -> None:
        file = tmp_path / "config.yaml"
        file.write_text("data: {rotation: 3, augment: strong}")
        assert (load_config(file).data.rotation, load_config(file).data.shear) == (3, 5)

    def test_a_word_given_to_train_goes_before_a_config(self) -> None:
        config = load_config(None, {"data.augment": "strong", "data.flip": "0.1"})
        data = load_config(None, given_settings(config) | expand_presets({"data.augment": "aerial"})).data
        assert (data.augment, data.rotation, data.quarter_turns, data.flip) == ("aerial", 0, 0.75, 0.5)

    def test_another_word_is_refused_with_the_choices(self) -> None:
        with pytest.raises(
            ConfigError, match=r"data\.augment='arial': .*'none', 'light', 'default', 'strong' or 'aerial'"
        ):
            load_config(None, {"data.augment": "arial"})
