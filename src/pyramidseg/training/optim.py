"""Optimiser and learning rate."""

import math

import torch
from torch import nn

from pyramidseg.base.config import Config, OptimConfig
from pyramidseg.model.classifier import Classifier
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.stages import count_parts, part_finder
from pyramidseg.training.freezing import frozen_parts
from pyramidseg.training.muon import Muon

Group = dict[str, object]

OPTIMIZERS = {"muon": "Muon", "adamw": "AdamW", "sgd": "SGD"}
"""Names as people write them."""


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW, Muon, or SGD with Nesterov momentum; each group's peak rate is kept in its `peak_lr`.

    Norms and biases are not decayed (He et al. 2019, arXiv 1812.01187, section 3.1).
    """
    groups = parameter_groups(model, config)
    if config.optimizer == "sgd":
        nesterov = config.momentum > 0
        # Not fused: torch's kernel fails where what thaws has no momentum yet and the rest has.
        return torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum, nesterov=nesterov)
    if config.optimizer == "muon":
        return Muon(groups, lr=config.peak_lr)
    return torch.optim.AdamW(groups, lr=config.peak_lr, fused=True)


def choose_optimizer(config: Config) -> tuple[Config, str]:
    """The settings with `auto` made out, and what was chosen in words.

    Muon is for random weights, where it was measured (docs/recipe.md). Weights that AdamW or SGD trained are taken
    further by AdamW: Muon's updates change all directions alike, those that pretraining has settled too.
    """
    optim = config.optim
    if optim.optimizer == "auto":
        pretrained = config.model.weights != "random" or config.model.encoder_weights != "none"
        optim = optim.model_copy(update={"optimizer": "adamw" if pretrained else "muon"})
    optim = optim.model_copy(update={"lr": optim.peak_lr})
    config = config.model_copy(update={"optim": optim})
    return config, f"{OPTIMIZERS[optim.optimizer]}, peak learning rate {optim.peak_lr:g}"


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[Group]:
    """All parameters that are ever trained, by peak rate, by whether they decay, and by whether Muon takes them."""
    rates, outputs = _peak_rates(model, config), _output_names(model)
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name in rates:
            orthogonal = name not in outputs and _mixes_channels(parameter)
            key = rates[name], parameter.ndim > 1, orthogonal
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": rate,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "orthogonal": orthogonal,
        }
        for (rate, decayed, orthogonal), parameters in groups.items()
    ]


def _peak_rates(model: nn.Module, config: OptimConfig) -> dict[str, float]:
    """Peak rate by name of every parameter that is ever trained.

    Layer-wise decay: Clark et al. 2020, arXiv 2003.10555, appendix A; Bao et al. 2021, arXiv 2106.08254, section 3.1.
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


def _mixes_channels(parameter: nn.Parameter) -> bool:
    """Whether a parameter is a matrix between channels, which Muon is made for; depthwise filters are none."""
    return parameter.ndim > 1 and parameter.shape[1] > 1


def _output_names(model: nn.Module) -> frozenset[str]:
    """Parameters of the layers that give classes, which are not Muon's: their rows have nothing in common."""
    layers: tuple[nn.Module | None, ...] = ()
    if isinstance(model, Segmenter):
        layers = model.classifier, model.head
    if isinstance(model, Classifier):
        layers = model.output_layers
    outputs = {id(parameter) for layer in layers if layer is not None for parameter in layer.parameters()}
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in outputs)


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def factor_at(config: Config, number: int, *, steps_an_epoch: int) -> float:
    """`lr_factor` at a run's step number `number`, by the run's settings."""
    return lr_factor(
        number,
        steps=config.train.epochs * steps_an_epoch,
        warmup_steps=round(config.optim.warmup_epochs * steps_an_epoch),
        schedule=config.optim.schedule,
    )


def lr_factor(step: int, *, steps: int, warmup_steps: int, schedule: str) -> float:
    """Share of the peak rate at a step: a linear rise over the warm-up, then the schedule's fall.

    `poly` is (1 - progress) ** 0.9 (DeepLab, Chen et al. 2017, arXiv 1606.00915, section 4.1), `cosine` half a wave.
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    progress = step / max(1, steps)
    match schedule:
        case "poly":
            return float(warmup * (1 - progress) ** 0.9)
        case "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * progress))
        case _:
            return warmup
