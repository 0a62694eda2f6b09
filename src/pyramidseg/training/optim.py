"""Optimizer, learning rate schedule, frozen parts of the encoder, and the moving average of weights.

Frozen parts are in evaluation mode: they get no gradients, and the statistics of their norms stay as they are.
"""

import copy
import math
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyramidseg.base.config import Config, OptimConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.encoder import count_parts, part_finder
from pyramidseg.model.packaged_weights import PACKAGES
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.muon import Muon

Group = dict[str, object]

OPTIMIZERS = {"muon": "Muon", "adamw": "AdamW", "sgd": "SGD"}
"""Display name by value of `optim.optimizer`."""

PRETRAINED_MUON_RATE = 6e-3
"""Peak rate where `auto` chooses Muon and a pretrained encoder is trained further; measured for EfficientNet-Lite."""


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW, Muon, or SGD with Nesterov momentum; each parameter group stores its peak learning rate as `peak_lr`.

    Norms and biases have no weight decay (He et al. 2019, arXiv 1812.01187, section 3.1).
    """
    groups = parameter_groups(model, config)
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        # Not fused: torch's kernel fails if some parameters have momentum and others, just unfrozen, have none yet.
        return torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum, nesterov=nesterov)
    if config.optimizer == "muon":
        return Muon(groups, lr=config.peak_lr)
    return torch.optim.AdamW(groups, lr=config.peak_lr, fused=True)


def state_keys(optimizer: torch.optim.Optimizer, group: Mapping[str, object]) -> set[str]:
    """Names of the tensors that an optimizer of `make_optimizer` keeps for each parameter of a group."""
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer"}
    return {"momentum"} if isinstance(optimizer, Muon) and group["orthogonal"] else {"step", "exp_avg", "exp_avg_sq"}


def choose_optimizer(config: Config) -> tuple[Config, str]:
    """Resolve `optim.optimizer=auto` and the default learning rate.

    Networks with random weights or a pretrained encoder get Muon, the latter with a higher rate, as measured in
    docs/recipe.md. Weights of the whole network get AdamW: Muon updates all directions equally, including those that
    training has settled.

    Returns:
        The resolved settings, and a note that describes the choice.
    """
    optim, doubt = config.optim, ""
    if optim.optimizer == "auto":
        optim = optim.model_copy(update={"optimizer": "muon" if config.model.weights == "random" else "adamw"})
        if optim.optimizer == "muon" and optim.lr is None and config.model.encoder_weights != "none":
            optim = optim.model_copy(update={"lr": PRETRAINED_MUON_RATE})
            doubt = "" if config.model.encoder in PACKAGES else " (not measured for this encoder: docs/recipe.md)"
    optim = optim.model_copy(update={"lr": optim.peak_lr})
    config = config.model_copy(update={"optim": optim})
    return config, f"{OPTIMIZERS[optim.optimizer]}, peak learning rate {optim.peak_lr:g}{doubt}"


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[Group]:
    """Group all trainable parameters by peak learning rate, weight decay, and whether Muon updates them.

    Parameters that stay frozen for the whole run are in no group.
    """
    rates, outputs = _peak_rates(model, config), _output_names(model)
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name in rates:
            # Muon is for parameters that mix channels; depthwise filters do not.
            orthogonal = name not in outputs and parameter.ndim > 1 and parameter.shape[1] > 1
            key = rates[name], parameter.ndim > 1, orthogonal
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "peak_lr": rate, "weight_decay": config.weight_decay * decayed, "orthogonal": orthogonal}
        for (rate, decayed, orthogonal), parameters in groups.items()
    ]


def _peak_rates(model: nn.Module, config: OptimConfig) -> dict[str, float]:
    """Peak learning rate of every trainable parameter, by name.

    Layer-wise learning rate decay: Clark et al. 2020, arXiv 2003.10555, appendix A; Bao et al. 2021, arXiv 2106.08254,
    section 3.1.
    """
    if not isinstance(model, Segmenter):
        return {name: config.peak_lr for name, _ in model.named_parameters()}
    parts, part_of = count_parts(model.encoder), part_finder(model.encoder)
    untrained = 0 if config.unfreeze_epoch else frozen_parts(model, config, epoch=0)
    rates: dict[str, float] = {}
    for name, _ in model.named_parameters():
        if not name.startswith("encoder."):
            rates[name] = config.peak_lr
        elif (part := part_of(name.removeprefix("encoder."))) >= untrained:
            rates[name] = config.peak_lr * config.encoder_lr_factor * config.layer_decay ** (parts - part)
    return rates


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
    for name, module in model.encoder.named_modules():
        if name and (part_of(name) < frozen or (config.freeze_norm and isinstance(module, _BatchNorm))):
            module.eval()


def _output_names(model: nn.Module) -> frozenset[str]:
    """Parameters of the output layers, which AdamW updates: each row belongs to another class."""
    layers: tuple[nn.Module | None, ...] = ()
    if isinstance(model, Segmenter):
        layers = model.classifier, model.head
    if isinstance(model, Classifier):
        layers = model.output_layers
    outputs = {id(parameter) for layer in layers if layer is not None for parameter in layer.parameters()}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in outputs)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def lr_factor(config: Config, step: int, *, steps_an_epoch: int) -> float:
    """Learning rate at a step of a run, relative to its peak: linear warm-up times the schedule.

    `poly` is (1 - progress) ** 0.9 (DeepLab, Chen et al. 2017, arXiv 1606.00915, section 4.1); `cosine` is half a
    cosine wave (Loshchilov & Hutter 2016, arXiv 1608.03983).
    """
    warmup_steps = round(config.optim.warmup_epochs * steps_an_epoch)
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    progress = step / max(1, config.train.epochs * steps_an_epoch)
    match config.optim.schedule:
        case "poly":
            return float(warmup * (1 - progress) ** 0.9)
        case "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * progress))
        case _:
            return warmup


class ModelEma:
    """Exponential moving average of a model's floating-point parameters and buffers.

    The decay after `n` updates is min(decay, (1 + n) / (10 + n)), so that the initial weights are soon forgotten (as in
    TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Move the average towards the model; `updates` is the number of earlier updates."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        average, trained = self.model.state_dict(), model.state_dict()
        floating = [name for name, tensor in average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([average[name] for name in floating], [trained[name] for name in floating], 1 - decay)
        for name in average.keys() - set(floating):
            average[name].copy_(trained[name])
