"""Preparation of a trained model for prediction: a copy with folded norms, optionally in lower precision."""

import copy

import torch
from torch import Tensor, nn

from pyramidseg.model.folding import fold_batch_norm
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.static_padding import make_padding_static


def inference_copy(segmenter: Segmenter, *, dtype: torch.dtype | None = None) -> Segmenter:
    """A copy that computes the same in evaluation mode with fewer layers; not for training or saving.

    The original is not changed.

    Args:
        dtype: of encoder, decoder and classifier, and so of the coarse logits; None keeps it. Images are normalised in
            the original's dtype whatever this is, so that 16-bit images survive.
    """
    model = copy.deepcopy(segmenter).eval().requires_grad_(False)
    stride = model.settings.coarsest_stride
    fold_batch_norm(model, model.mean.new_zeros(1, model.settings.in_channels, stride, stride))
    make_padding_static(model.encoder)
    if dtype is not None and dtype != model.mean.dtype:
        for part in (model.encoder, model.decoder, model.classifier):
            part.to(dtype)
        model.encoder.register_forward_pre_hook(_Cast(dtype))
    return model.train(False)


def logits_of_padded(model: Segmenter, image_BCHW: Tensor) -> Tensor:
    """Normalised images whose sides divide by the coarsest stride to coarse logits."""
    logits: Tensor = model.classifier(model.decoder(model.encoder(image_BCHW)))
    return logits


class _Cast:
    """Hands a module its input in another dtype. A class, so that models which hold it can be copied and pickled."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0].to(self.dtype),)
