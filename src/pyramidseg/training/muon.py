"""Muon: momentum SGD that orthogonalizes the update of each convolution, so that all directions learn at one rate.

Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon (momentum, Newton-Schulz iteration). The update is
scaled as in Liu et al. 2025, arXiv 2502.16982, section 2.2, so that AdamW's learning rate and weight decay apply.
`torch.optim.Muon` accepts matrices only; here the filters of a convolution are the rows of a matrix.

`timm.optim.Muon` trains as well in the same time where bfloat16 is fast (docs/recipe.md). This one is kept for CPUs
where it is not, and because checkpoints of earlier runs contain its state.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pyramidseg.base.device import has_fast_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration: steep at 0; singular values end between 0.7 and 1.2 instead of at 1."""

ITERATIONS = 5
RMS = 0.2
"""Root mean square of an update at learning rate 1, close to that of AdamW in practice."""


class Muon(torch.optim.Optimizer):
    """Muon for groups with `orthogonal=True`, AdamW (betas 0.9 and 0.999) for the others.

    Parameters of orthogonal groups have two dimensions or more: (rows, ...).
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        assert closure is None, "closures are not supported"
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in parameters:
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                self._orthogonal(parameters, lr=group["lr"], momentum=group["momentum"])
            else:
                self._adam(parameters, lr=group["lr"])

    def _orthogonal(self, parameters: Sequence[nn.Parameter], *, lr: float, momentum: float) -> None:
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - momentum)
            update = parameter.grad.lerp(state["momentum"], momentum)  # Nesterov momentum
            rows = update.reshape(len(update), -1)
            direction = orthogonalize(rows).to(parameter.dtype).view(update.shape)
            parameter.add_(direction, alpha=-lr * RMS * max(rows.shape) ** 0.5)

    def _adam(self, parameters: Sequence[nn.Parameter], *, lr: float) -> None:
        low, high, epsilon = 0.9, 0.999, 1e-8
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            steps = float(state["step"])
            state["exp_avg"].lerp_(parameter.grad, 1 - low)
            state["exp_avg_sq"].mul_(high).addcmul_(parameter.grad, parameter.grad, value=1 - high)
            scale = (state["exp_avg_sq"] / (1 - high**steps)).sqrt_().add_(epsilon)
            parameter.addcdiv_(state["exp_avg"], scale, value=-lr / (1 - low**steps))


def orthogonalize(matrix: Tensor) -> Tensor:
    """Move all singular values of (M, N) close to 1: approximately the nearest orthogonal matrix.

    Returns:
        (M, N), in bfloat16 on devices that are fast in it (five iterations are as good as in float32), otherwise in
        float32.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x: Tensor = wide / wide.norm().clamp(min=1e-7)
    result = _iterate(x.bfloat16()) if has_fast_bf16(matrix.device) else _iterate_gram(x.float())
    return result if wide is matrix else result.T


def _iterate(x: Tensor) -> Tensor:
    """The iteration as published: X <- (a + b G + c G^2) X, with G = X X^T; (M, N), M <= N."""
    for _ in range(ITERATIONS):
        x = torch.addmm(x, _polynomial(x @ x.T), x, beta=COEFFICIENTS[0])
    return x


def _iterate_gram(x: Tensor) -> Tensor:
    """The same iteration on the Gram matrix: P = a + b G + c G^2 commutes with G, hence G <- P G P, on (M, M) only.

    Equal in exact arithmetic. It takes a third to a half of the time in float32 if N is several times M; in bfloat16
    the squares of small singular values would be lost.
    """
    gram = x @ x.T
    product = None
    for last in (False,) * (ITERATIONS - 1) + (True,):
        polynomial = _polynomial(gram)
        polynomial.diagonal().add_(COEFFICIENTS[0])
        product = polynomial if product is None else polynomial @ product
        if not last:
            gram = polynomial @ gram @ polynomial
    assert product is not None
    return product @ x


def _polynomial(gram: Tensor) -> Tensor:
    """B G + c G^2."""
    return torch.addmm(gram, gram, gram, beta=COEFFICIENTS[1], alpha=COEFFICIENTS[2])
