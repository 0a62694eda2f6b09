"""Classes of the same names in another order are mapped by name; other names are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError, WeightsError
from pyramidseg.evaluation.scoring import evaluate, with_classes
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.model.segmenter import Segmenter

NAMES = ("sky", "road", "car")
SMALL = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 8, "segmentation_channels": 8}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Segmenter(**SMALL, classes=NAMES, image_head=True)
    torch.nn.init.normal_(model.classifier.weight)
    torch.nn.init.normal_(model.head.weight)
    return model.eval()


def dataset(root: Path, names: tuple[str, ...], order: tuple[int, ...]) -> Path:
    """The same images and truth, with mask value v for the class NAMES[order[v]]."""
    random = np.random.default_rng(0)
    value = np.argsort(order).astype(np.uint8)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for index in range(3):
            truth = random.integers(0, 3, (32, 32)).astype(np.uint8)
            image = random.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(image).save(root / split / "images" / f"{index}.png")
            Image.fromarray(value[truth]).save(root / split / "masks" / f"{index}.png")
    lines = [f"{split}: {{images: {split}/images, masks: {split}/masks}}" for split in ("train", "val")]
    classes = "".join(f"  - {name}\n" for name in names)
    (root / "dataset.yaml").write_text("\n".join(lines) + f"\nclasses:\n{classes}")
    return root / "dataset.yaml"


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0), (1, 0, 2)])
def test_evaluation_is_that_of_the_models_own_order(model, tmp_path, order):
    own = evaluate(model, dataset(tmp_path / "own", NAMES, (0, 1, 2)), device="cpu")
    names = tuple(NAMES[index] for index in order)
    other = evaluate(model, dataset(tmp_path / "other", names, order), device="cpu")
    assert torch.equal(other.confusion, own.confusion) and other.metrics.miou == own.metrics.miou
    assert len(np.unique(own.confusion.sum(0).numpy())) > 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("sky", "road", "bus"), "only in the dataset: bus; only in the model: car; rename"),
        (("class 0", "class 1", "class 2"), "list the model's names under classes in the dataset's YAML file"),
        (
            ("sky", "road"),
            "2 classes, but the model has 3; only in the dataset: none; only in the model: car; evaluate",
        ),
    ],
)
def test_other_names_are_refused(model, tmp_path, names, message):
    file = dataset(tmp_path / "d", NAMES, (0, 1, 2))
    opened = open_dataset(file, DataConfig())
    with pytest.raises(DataError, match=message):
        with_classes(replace(opened, classes=Classes.from_names(names)), model.classes)


def test_the_advice_for_numbered_classes_leads_to_the_right_figure(model, tmp_path):
    own = evaluate(model, dataset(tmp_path / "own", NAMES, (0, 1, 2)), device="cpu")
    file = dataset(tmp_path / "numbered", ("class 0", "class 1", "class 2"), (2, 0, 1))
    with pytest.raises(DataError, match=r"list the model's names under classes .* in the order of the mask values"):
        evaluate(model, file, device="cpu")
    followed = file.read_text().replace("class 0", "car").replace("class 1", "sky").replace("class 2", "road")
    file.write_text(followed)
    assert torch.equal(evaluate(model, file, device="cpu").confusion, own.confusion)


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0), (1, 0, 2), (0, 1, 2)])
def test_fine_tuning_begins_with_the_classifier_of_the_same_names(model, tmp_path, order):
    model.save(tmp_path / "model.safetensors")
    other = Segmenter(**SMALL, classes=[NAMES[index] for index in order], image_head=True)
    report = other.load_weights(tmp_path / "model.safetensors")
    assert ("mapped by name" in report) == (order != (0, 1, 2))
    image = torch.rand(1, 3, 40, 40)
    with torch.inference_mode():
        torch.testing.assert_close(other.eval()(image), model(image)[:, list(order)], rtol=0, atol=0)
        torch.testing.assert_close(other.image_logits(image), model.image_logits(image)[:, list(order)])


def test_another_name_is_still_refused(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    other = Segmenter(**SMALL, classes=("sky", "road", "bus"), image_head=True)
    with pytest.raises(WeightsError, match="`reset_head=True` reinit"):
        other.load_weights(tmp_path / "model.safetensors")
