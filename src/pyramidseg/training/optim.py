"""Optimiser, learning rate and frozen parts."""

import math

import torch
from torch import nn

from pyramidseg.config import Config, OptimConfig
from pyramidseg.model.segmenter import Segmenter


def make_optimizer(model: Segmenter, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW or SGD with Nesterov momentum; each group's peak rate is kept in its `peak_lr`.

    Norms and biases are not decayed (He et al. 2019, arXiv 1812.01187, section 3.1); the encoder has its own rate.
    """
    if config.freeze_encoder:
        model.encoder.requires_grad_(False)
    groups = [group for group in parameter_groups(model, config) if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def parameter_groups(model: Segmenter, config: OptimConfig) -> list[dict[str, object]]:
    """Trainable parameters by part (encoder, the rest) and by whether they are decayed."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {
        (part, decayed): [] for part in (True, False) for decayed in (True, False)
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name.startswith("encoder."), parameter.ndim > 1].append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decayed else 0.0,
            "peak_lr": config.lr * (config.encoder_lr_factor if in_encoder else 1.0),
        }
        for (in_encoder, decayed), parameters in groups.items()
    ]


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


def set_training_mode(model: Segmenter, *, freeze_encoder: bool) -> None:
    """Training mode; a frozen encoder stays in evaluation mode, its BatchNorm statistics with it."""
    model.train()
    if freeze_encoder:
        model.encoder.eval()
