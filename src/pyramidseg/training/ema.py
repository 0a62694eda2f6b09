"""Exponential moving average of weights and statistics."""

import copy

import torch
from torch import nn


class ModelEma:
    """A copy of the model whose floating-point tensors follow the trained one's slowly.

    The decay rises as (1 + n) / (10 + n) up to `decay`, so that the first random weights are soon forgotten (as in
    TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Take in the model's tensors after its update number `updates`, counted from 0."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        average, trained = self.model.state_dict(), model.state_dict()
        floating = [name for name, tensor in average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([average[name] for name in floating], [trained[name] for name in floating], 1 - decay)
        for name in average.keys() - set(floating):
            average[name].copy_(trained[name])
