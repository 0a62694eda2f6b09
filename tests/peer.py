"""The network of segmentation_models.pytorch that ours is compared with."""

import segmentation_models_pytorch as smp
import torch
from torch import nn


def peer(encoder: str = "resnet18", *, seed: int = 0, **settings: object) -> nn.Module:
    """Its FPN in evaluation mode with random weights, random statistics and parameters of every norm among them."""
    small = {"classes": 5, "decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32}
    torch.manual_seed(seed)
    model: nn.Module = smp.FPN(encoder, encoder_weights=None, **(small | settings))
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    for module in [*model.decoder.modules(), *model.segmentation_head.modules()]:
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()
