"""The same network in segmentation_models.pytorch, given the same weights, gives the same logits."""

import re

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from pyramidseg.model.segmenter import Segmenter

CLASSES = 5


def their_weights(ours: Segmenter, *, concat: bool) -> dict[str, Tensor]:
    """Our weights under the names of `smp.FPN`."""
    weights = {}
    for name, tensor in ours.state_dict().items():
        if name in {"mean", "std"}:
            continue
        if name == "classifier.weight" and concat:
            # They concatenate the coarsest level first, we the finest.
            tensor = torch.cat(tensor.chunk(4, dim=1)[::-1], dim=1)
        weights[their_name(name)] = tensor
    return weights


def their_name(name: str) -> str:
    if name.startswith("encoder.network."):
        return name.replace("encoder.network.", "encoder.")
    if name.startswith("classifier."):
        return name.replace("classifier.", "segmentation_head.0.")
    if lateral := re.fullmatch(r"decoder\.pyramid\.lateral\.(\d)\.(\w+)", name):
        level = 2 + int(lateral[1])
        return f"decoder.p{level}.{lateral[2]}" if level == 5 else f"decoder.p{level}.skip_conv.{lateral[2]}"
    branch = re.fullmatch(r"decoder\.branches\.(\d)\.(\d)\.(conv|norm)\.(\w+)", name)
    assert branch is not None, name
    layer = {"conv": 0, "norm": 1}[branch[3]]
    return f"decoder.seg_blocks.{3 - int(branch[1])}.block.{branch[2]}.block.{layer}.{branch[4]}"


@pytest.mark.parametrize(("encoder", "merge"), [("resnet18", "add"), ("resnet18", "concat"), ("resnet50", "add")])
def test_equals_segmentation_models_pytorch(encoder, merge):
    torch.manual_seed(0)
    ours = Segmenter(
        num_classes=CLASSES,
        encoder=encoder,
        encoder_weights="none",
        smoothing=False,
        align_corners=True,
        norm="group",
        merge=merge,
    )
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    theirs = smp.FPN(
        encoder,
        encoder_weights=None,
        classes=CLASSES,
        decoder_merge_policy={"add": "add", "concat": "cat"}[merge],
    )
    theirs.load_state_dict(their_weights(ours, concat=merge == "concat"))
    ours, theirs = ours.double().eval(), theirs.double().eval()
    image = torch.rand(1, 3, 96, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected = theirs(ours.normalize(image))
        difference = (ours(image) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-9
    assert expected.std() > 1e-3
