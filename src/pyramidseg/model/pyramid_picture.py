"""A picture of an image, its predicted labels and the pyramid map of each level."""

import io
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.images.thumbnails import to_rgb
from pyramidseg.model.segmenter import Segmenter

LEGEND_CLASSES = 12
"""Maximum number of classes in the legend: those with the most pixels."""


@torch.inference_mode()
def draw_pyramid(model: Segmenter, image: NDArray[Any]) -> bytes:
    """Draw the image, its labels and two views of the pyramid map of each level, as PNG.

    Above: the first three principal components of the map as red, green and blue. Below: the mean absolute activation.

    Args:
        model: is set to evaluation mode.
        image: (H, W, C) as the model accepts it.
    """
    model.eval()
    batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(model.mean.device)
    levels = [level[0].float().cpu() for level in model.pyramid_maps(batch)]
    labels = model(batch)[0].argmax(dim=0).to(torch.uint8).cpu().numpy()

    height, width = labels.shape
    figure = Figure(figsize=(2.6 * (1 + len(levels)), 0.9 + 2 * 2.6 * min(2.0, max(0.4, height / width))), dpi=130)
    axes = figure.subplots(2, 1 + len(levels))
    _show(axes[0, 0], to_rgb(image), "image")
    _show(axes[1, 0], model.classes.colorize(labels), "labels")
    for column, (stride, level) in enumerate(zip(model.encoder.strides, levels, strict=True), start=1):
        seen = level[:, : -(-height // stride), : -(-width // stride)]  # without the padding
        size = f"{seen.shape[2]}x{seen.shape[1]}"
        _show(axes[0, column], principal_colors(seen), f"stride {stride}: {size}, components")
        _show(axes[1, column], seen.abs().mean(dim=0).numpy(), "mean activation")
    _name_classes(figure, model, labels)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def principal_colors(level_PHW: Tensor) -> NDArray[np.float32]:
    """(P, H, W) to (H, W, 3) in [0, 1]: the first three principal components over the pixels.

    Each spans its 1st to 99th percentile. Fewer than three channels leave the last colours at 0.
    """
    channels, height, width = level_PHW.shape
    values = level_PHW.flatten(1).double()
    values = values - values.mean(dim=1, keepdim=True)
    _, axes = torch.linalg.eigh(values @ values.T)
    axes = axes[:, -3:].flip(1)
    # An eigenvector's sign is arbitrary: the largest entry is made positive, so that pictures repeat.
    axes = axes * axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)).sign()
    components = axes.T @ values
    low, high = (torch.quantile(components, share, dim=1, keepdim=True) for share in (0.01, 0.99))
    colors = torch.zeros(3, height * width, dtype=torch.float64)
    colors[: min(3, channels)] = ((components - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    result: NDArray[np.float32] = colors.T.reshape(height, width, 3).float().numpy()
    return result


def _show(axes: Axes, pixels: NDArray[Any], title: str) -> None:
    axes.imshow(pixels, cmap="viridis", interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def _name_classes(figure: Figure, model: Segmenter, labels: NDArray[np.uint8]) -> None:
    counts = np.bincount(labels.ravel(), minlength=len(model.classes))
    found = [index for index in np.argsort(-counts, kind="stable")[:LEGEND_CLASSES] if counts[index]]
    colors = [model.classes.colors[index] for index in found]
    handles = [Patch(color=(red / 255, green / 255, blue / 255)) for red, green, blue in colors]
    names = [model.classes.names[index] for index in found]
    figure.legend(handles, names, loc="lower center", ncols=max(1, len(found)), fontsize=8, frameon=False)
