"""Predictions written in label formats: equal to the masks, resumed, and refused where they cannot be complete."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor

from made_backends import Brightness
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.writers import LABEL_WRITERS
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(Brightness())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a.png", "deep/b.png", "c.png")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(seed).integers(0, 2, (4, 5), np.uint8) * 255
        Image.fromarray(small.repeat(4, 0).repeat(4, 1)).convert("RGB").save(path)
    return tmp_path / "images"


def masks(out: Path) -> dict[str, list[list[int]]]:
    found = {name: np.asarray(Image.open(out / f"{name}.png")) for name in ("a", "deep/b", "c")}
    return {Path(name).name: mask.tolist() for name, mask in found.items()}


@pytest.mark.parametrize("format", [name for name in LABEL_WRITERS if name != "geojson"])
def test_labels_equal_the_masks(format: str, predictor: Predictor, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(predictor, [images], out, save=(format,))
    if format.startswith("label-studio"):
        (file,) = (out / format).glob("*.json")
        tasks = json.loads(file.read_text())
        versions = {task["predictions"][0].pop("model_version") for task in tasks}
        assert len(versions) == 1 and all("annotations" not in task for task in tasks)
        file.write_text(json.dumps([{**task, "annotations": task.pop("predictions")} for task in tasks]))
    for path in images.rglob("*.png"):  # next to the labels, as a user has them
        name = path.relative_to(images).with_suffix("").as_posix()
        name = name.replace("/", "_") if LABEL_WRITERS[format].is_flat else name
        target = (out / format / LABEL_WRITERS[format].image_path.format(split="train", name=name)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    dataset = open_dataset(out / format, DataConfig())
    found = {
        Path(record.id).name.removeprefix("deep_"): read_labels(record, dataset.masks)
        for records in dataset.splits.values()
        for record in records
    }
    bright = dataset.classes.names.index("bright")
    assert {name: (labels == bright).astype(int).tolist() for name, labels in found.items()} == masks(out)


def confidences(out: Path) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Labels and confidence by name."""
    names = ("a", "deep/b", "c")
    found = {}
    for name in names:
        with Image.open(out / f"{name}.png") as labels, Image.open(out / f"{name}_confidence.png") as confidence:
            found[Path(name).name] = np.array(labels), np.array(confidence)
    return found


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_scores_are_the_mean_confidence_of_their_pixels(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed, path in enumerate(sorted(images.rglob("*.png"))):
        grey = np.random.default_rng(seed).integers(0, 256, (4, 5), np.uint8)
        Image.fromarray(grey.repeat(4, 0).repeat(4, 1)).convert("RGB").save(path)
    predict_files(predictor, [images], out, save=("confidence", "label-studio", "coco", "supervisely", "cvat-images"))
    pictures = confidences(out)
    assert len({int(value) for _, confidence in pictures.values() for value in np.unique(confidence)}) > 1
    for task in json.loads((out / "label-studio/train.json").read_text()):
        labels, confidence = pictures[Path(task["data"]["image"]).stem]
        (prediction,) = task["predictions"]
        assert prediction["score"] == pytest.approx(confidence.mean() / 255, abs=1e-4)
        for region in prediction["result"]:
            of_class = labels == predictor.classes.names.index(region["value"]["brushlabels"][0])
            assert region["score"] == pytest.approx(confidence[of_class].mean() / 255, abs=1e-4)
    content = json.loads((out / "coco/annotations/instances_train.json").read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    assert content["annotations"]
    for annotation in content["annotations"]:
        confidence = pictures[names[annotation["image_id"]]][1]
        pixels = coco_mask.decode(annotation["segmentation"]) > 0
        assert annotation["score"] == pytest.approx(confidence[pixels].mean() / 255, abs=1e-4)
    objects = json.loads((out / "supervisely/train/ann/a.png.json").read_text())["objects"]
    assert [tag["name"] for one in objects for tag in one["tags"]] == ["confidence"] * len(objects)
    assert json.loads((out / "supervisely/meta.json").read_text())["tags"][0]["value_type"] == "any_number"
    text = (out / "cvat-images/annotations.xml").read_text()
    assert text.count('source="auto"') == text.count("<mask ") > 0


def test_without_confidence_there_are_no_scores(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    predict_files(predictor, [images], tmp_path / "out", save=("label-studio", "coco", "supervisely"))
    assert not list((tmp_path / "out").rglob("*_confidence.png"))
    texts = [path.read_text() for path in (tmp_path / "out").rglob("*.json") if path.name != "predictions.json"]
    assert not any("score" in text or "confidence" in text for text in texts)
    predict_files(predictor, [images], tmp_path / "out", save=("label-studio", "confidence"))
    assert "score" in (tmp_path / "out/label-studio/train.json").read_text()


def test_a_later_call_adds_what_is_new(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict_files(predictor, [images / "a.png"], out, save=("coco",))
    predict_files(predictor, [images], out, save=("coco",))
    predict_files(predictor, [images], tmp_path / "at_once", save=("coco",))
    name = "coco/annotations/instances_train.json"
    found, expected = (json.loads((folder / name).read_text()) for folder in (out, tmp_path / "at_once"))
    assert sorted(image["file_name"] for image in found["images"]) == ["a.png", "c.png", "deep/b.png"]
    assert len(found["annotations"]) == len(expected["annotations"])


def test_the_mask_of_an_earlier_call_does_not_stand_for_an_image_that_fails_now(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    predict_files(predictor, [images], out)
    Image.new("P", (20, 16)).save(images / "c.png")  # it can be opened, and the model fails

    class Failing(Brightness):
        def coarse_logits(self, images: Tensor) -> Tensor:
            logits = super().coarse_logits(images)
            return logits.where((images.flatten(1) > 0).any(1)[:, None, None, None], float("nan"))

    summary = predict_files(Predictor(Failing()), [images], out, save=("coco",), overwrite=True)
    assert [Path(entry["image"]).name for entry in summary.failed] == ["c.png"] and (out / "c.png").exists()
    content = json.loads((out / "coco" / "annotations" / "instances_train.json").read_text())
    assert sorted(image["file_name"] for image in content["images"]) == ["a.png", "deep/b.png"]


def test_an_image_that_fails_is_left_out_and_parts_are_refused(
    predictor: Predictor, images: Path, tmp_path: Path
) -> None:
    (images / "broken.png").write_bytes(b"no image")
    summary = predict_files(predictor, [images], tmp_path / "out", save=("coco",))
    assert len(summary.failed) == 1
    content = json.loads((tmp_path / "out" / "coco" / "annotations" / "instances_train.json").read_text())
    assert len(content["images"]) == 3
    with pytest.raises(ConfigError, match=r"`save=coco`: .* leave it out here, and when all"):
        predict_files(predictor, [images], tmp_path / "other", save=("coco",), shard="1/2")


def test_a_class_that_the_format_cannot_hold_is_refused_before_anything_is_computed(
    images: Path, tmp_path: Path
) -> None:
    class WithVoid(Brightness):
        classes = Classes.from_names(["dark", "void", "absent"])

    model = WithVoid()
    with pytest.raises(ConfigError, match="class 'void': voc cannot hold this name, which would be read back as no"):
        predict_files(Predictor(model), [images], tmp_path / "out", save=("voc",))
    assert not model.batches and not (tmp_path / "out").exists()
