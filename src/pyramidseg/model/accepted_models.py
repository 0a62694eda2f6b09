"""What may be given as a model: a path, or a Segmenter, also inside torch's wrappers; anything else is named."""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from pyramidseg.base.errors import ConfigError
from pyramidseg.model.segmenter import Segmenter

WRAPPERS = ("_orig_mod", "module", "segmenter")
"""Attributes that hold the network in what `torch.compile`, DataParallel and AveragedModel return, and in training."""


def accepted_model(model: object) -> Segmenter | Path:
    """The Segmenter or the path that was given.

    Raises:
        ConfigError: it is neither; with its type and what to give instead.
    """
    if isinstance(model, (str, os.PathLike)):
        return Path(model)
    inner = model
    while isinstance(inner, nn.Module) and not isinstance(inner, Segmenter):
        inner = next((vars(inner)["_modules"].get(name) for name in WRAPPERS if name in inner._modules), None)
    if isinstance(inner, Segmenter):
        return inner
    found, advice = _describe(model)
    needed = "the path of a bundle or an exported file, or a Segmenter, is needed"
    raise ConfigError(f"model: {found}, but {needed}{advice and '; '}{advice}")


def _describe(model: object) -> tuple[str, str]:
    """The type of an object, never its content, and what to do with it."""
    kind = type(model)
    if isinstance(model, Mapping) and model and all(isinstance(value, Tensor) for value in model.values()):
        advice = "ps.Segmenter(...) with the settings and classes of the training takes it with load_state_dict"
        return f"a state dict of {len(model)} tensors", advice
    if isinstance(model, Mapping):
        return f"a {kind.__name__} with the keys {', '.join(map(str, list(model)[:6]))[:100] or 'none'}", ""
    if isinstance(model, type):
        return f"the class {model.__name__}", ""
    if isinstance(best := getattr(model, "best", None), Path):
        return f"a {kind.__name__}", f"give its attribute best ({best})"
    if isinstance(model, nn.Module):
        advice = "pyramidseg import converts checkpoints of FPNs of segmentation_models.pytorch"
        return f"a {kind.__name__} of {kind.__module__}", advice
    return f"an object of type {kind.__name__}", ""
