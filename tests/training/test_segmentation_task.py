"""The segmentation task: which loss is learned from, and which is shown."""

import torch

from pyramidseg.base.config import LossConfig
from pyramidseg.data.loading import Batch
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.segmentation_task import TrainingModel, segmentation_gradients


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
