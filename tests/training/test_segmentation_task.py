"""The segmentation task: which loss is learned from, and which is shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyramidseg.base.config import LossConfig
from pyramidseg.base.errors import DataError
from pyramidseg.base.overrides import load_config
from pyramidseg.data.loading import Batch
from pyramidseg.inspection.prepare_data import prepare_data
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.segmentation_gradients import TrainingModel, segmentation_gradients
from pyramidseg.training.segmentation_task import prepare_segmentation


def test_the_presence_loss_is_learned_from_and_not_part_of_the_loss_that_is_shown() -> None:
    torch.manual_seed(0)
    small = {"pyramid_channels": 32, "segmentation_channels": 32, "norm": "group"}
    model = Segmenter(num_classes=2, encoder="test_resnet", encoder_weights="none", image_head=True, **small).double()
    assert model.head is not None
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    batch = Batch(images, torch.randint(0, 2, (2, 32, 32), dtype=torch.uint8), ())
    accelerator = Accelerator(torch.device("cpu"), "fp64", seed=0)
    losses, gradients = [], []
    for presence in (0.0, 0.4):
        model.zero_grad()
        loss, _ = segmentation_gradients(
            accelerator,
            TrainingModel(model),
            [batch],
            0,
            loss=LossConfig(presence=presence),
            class_weights=torch.ones(2, dtype=torch.float64),
        )
        losses.append(float(loss))
        gradients.append(float(model.head.weight.grad.abs().sum()))
    assert losses[0] == losses[1]
    assert gradients[0] == 0 < gradients[1]


SMALL = {
    "model.encoder": "test_resnet",
    "model.encoder_weights": "none",
    "model.pyramid_channels": 32,
    "model.segmentation_channels": 32,
    "model.norm": "group",
    "train.device": "cpu",
    "data.crop": 32,
}


def splits(root: Path, *, val_classes: int) -> Path:
    """Four training images of two classes, and two validation images of one or two."""
    for split, count, classes in (("train", 4, 2), ("val", 2, val_classes)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng([number, split == "val"])
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / "images" / f"{number}.png")
            mask = (np.arange(1024).reshape(32, 32) % classes).astype(np.uint8)
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    return root


@pytest.mark.parametrize(
    ("val_classes", "stated", "watched"),
    [(1, {}, "val_loss"), (2, {}, "val_miou"), (1, {"train.watch": "val_miou"}, "val_miou")],
)
def test_val_loss_is_watched_where_val_has_one_class(
    tmp_path: Path, val_classes: int, stated: dict[str, str], watched: str
) -> None:
    task = prepare_segmentation(load_config(None, SMALL | stated), splits(tmp_path, val_classes=val_classes))
    assert task.config.train.watch == watched
    assert any("val_loss decides" in note for note in task.notes) == (watched == "val_loss")
    missing = [note for note in task.data.summary.notes if "class without a pixel in split val: 'class 1'" in note]
    assert len(missing) == (val_classes == 1)


def test_val_files_that_are_in_train_are_refused_unless_asked_for(tmp_path: Path) -> None:
    root = splits(tmp_path, val_classes=2)
    (root / "val" / "images" / "1.png").write_bytes((root / "train" / "images" / "3.png").read_bytes())
    with pytest.raises(DataError, match=r"1 of the 2 val images .*1\.png .*3\.png.*data\.allow_leak=true"):
        prepare_data(root, load_config(None, SMALL))
    accepted = prepare_segmentation(load_config(None, SMALL | {"data.allow_leak": "true"}), root)
    assert accepted.data.summary.splits["val"].images == 2
    assert accepted.notes[0].startswith("1 of the 2 val images are also in split train: ")
    assert (
        accepted.validate(accepted.model.eval(), batch_size=2)[1]["split"]
        == "val (1 of the 2 val images are also in split train)"
    )
