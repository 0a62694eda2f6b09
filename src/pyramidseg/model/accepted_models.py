"""What may be given as a model: a path, or a Segmenter, also inside torch's wrappers; anything else is named."""

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.remote_files import local_copy
from pyramidseg.model.segmenter import Segmenter

WRAPPERS = ("_orig_mod", "module", "segmenter")
"""Attributes that hold the network in what `torch.compile`, DataParallel and AveragedModel return, and in training."""


def accepted_model(model: object) -> Segmenter | Path:
    """The Segmenter or the path that was given; a URL is copied first.

    Raises:
        ConfigError: it is neither; with its type and what to give instead.
    """
    if isinstance(model, (str, os.PathLike)):
        return local_copy(os.fspath(model))
    inner = model
    while isinstance(inner, nn.Module) and not isinstance(inner, Segmenter):
        inner = next((vars(inner)["_modules"].get(name) for name in WRAPPERS if name in inner._modules), None)
    if isinstance(inner, Segmenter):
        return inner
    found, advice = f"an object of type {type(model).__name__}", ""
    if isinstance(model, Mapping) and model and all(isinstance(value, Tensor) for value in model.values()):
        found = f"a state dict of {len(model)} tensors"
        advice = "; ps.Segmenter(...) with the settings and classes of the training takes it with load_state_dict"
    elif isinstance(model, nn.Module):
        found = f"a {type(model).__name__} of {type(model).__module__}"
        advice = "; pyramidseg import converts checkpoints of FPNs of segmentation_models.pytorch"
    needed = "the path of a bundle or an exported file, or a Segmenter, is needed"
    raise ConfigError(f"model: {found}, but {needed}{advice}")
