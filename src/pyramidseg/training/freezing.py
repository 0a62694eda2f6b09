"""Frozen parts of the encoder, and the epoch from which they are trained.

Frozen parts are in evaluation mode: they get no gradients, and the statistics of their norms stay as they are.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyramidseg.base.config import OptimConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.model.encoder import count_parts, modules_by_part, part_finder
from pyramidseg.model.segmenter import Segmenter


def frozen_parts(model: Segmenter, config: OptimConfig, *, epoch: int) -> int:
    """Number of encoder parts, counted from the input, that are frozen in an epoch (from 0).

    Raises:
        ConfigError: `optim.freeze_stages` exceeds the number of parts, or they have no weights.
    """
    parts = count_parts(model.encoder)
    if config.freeze_stages > parts:
        raise ConfigError(
            f"optim.freeze_stages={config.freeze_stages}: {model.encoder.name} has {parts} parts (its stem, and one "
            f"stage for each of the strides {list(model.encoder.strides)}); choose 0 to {parts}"
        )
    part_of = part_finder(model.encoder)
    least = 1 + min(part_of(name) for name, _ in model.encoder.named_parameters())
    if 0 < config.freeze_stages < least:
        raise ConfigError(
            f"optim.freeze_stages={config.freeze_stages}: freezes nothing, as the first weights of "
            f"{model.encoder.name} are in its part {least}; choose {least} or more"
        )
    if config.unfreeze_epoch and epoch >= config.unfreeze_epoch:
        return 0
    return parts if config.freeze_encoder else config.freeze_stages


def set_training_mode(model: nn.Module, config: OptimConfig, *, epoch: int) -> None:
    """Put a model into training mode, and its frozen parts into evaluation mode without gradients."""
    model.train()
    if not isinstance(model, Segmenter):
        return
    frozen = frozen_parts(model, config, epoch=epoch)
    part_of = part_finder(model.encoder)
    for name, parameter in model.encoder.named_parameters():
        parameter.requires_grad_(part_of(name) >= frozen)
    if frozen == count_parts(model.encoder):
        model.encoder.eval()
        return
    for part, module in modules_by_part(model.encoder):
        if part < frozen or (config.freeze_norm and isinstance(module, _BatchNorm)):
            module.eval()
