"""The graph that every format is made from: one program of `torch.export` for images of any size.

Legend: B batch, C channels, H W pixels, K classes, h w cells of the finest stride.
"""

from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as shape_config

from pyramidseg.backends import LogitGeometry
from pyramidseg.backends.metadata import INPUT, INPUT_DTYPES
from pyramidseg.base.errors import ConfigError
from pyramidseg.model.inference import inference_copy, logits_of_padded
from pyramidseg.model.segmenter import Segmenter

DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Of encoder, decoder and classifier, by precision. Normalisation, logits and their upsampling are float32 always."""


class Graph(nn.Module):
    """From plain images to logits: what an exported file does.

    (B, C, H, W) to `logits` (B, K, H, W), for those who run the file elsewhere, and `coarse_logits` (B, K, h, w), from
    which labels are found without the others (`predict.labels`). Both are float32.
    """

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model
        self.stride = model.settings.coarsest_stride
        self.geometry = LogitGeometry(model.settings.finest_stride, model.settings.align_corners)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        # Not `Segmenter.pad`, which leaves images alone that need none: a graph has to hold for every size. And without
        # its modulo: of "stride times the cells" the tracer can tell that it divides, and keeps short formulas.
        rows, columns = ((side + self.stride - 1) // self.stride for side in (height, width))
        bottom, right = rows * self.stride - height, columns * self.stride - width
        padded = F.pad(self.model.normalize(images), (0, right, 0, bottom))
        coarse = logits_of_padded(self.model, padded).float()
        return self.geometry.upsample(coarse, height, width), coarse


def capture(segmenter: Segmenter, *, precision: str, input_dtype: str) -> ExportedProgram:
    """The graph of a model, on the CPU, for any batch, height and width from 1.

    Raises:
        ConfigError: the encoder does something that depends on the image in a way that a graph cannot hold.
    """
    model = inference_copy(segmenter, dtype=DTYPES[precision]).cpu()
    stride = model.settings.coarsest_stride
    # Sizes that differ from each other and need padding: else what they have in common would count as always so.
    example = torch.zeros(
        2, model.settings.in_channels, 2 * stride + 6, 3 * stride + 5, dtype=INPUT_DTYPES[input_dtype]
    )
    reason = ""
    # "Oblivious": sizes of 0 and 1 get no graphs of their own, so that one of them serves a single pixel, too.
    oblivious = shape_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    for any_size in SIZES:
        try:
            with oblivious, redirect_stderr(StringIO()):  # where torch prints the graph as far as it came
                return torch.export.export(Graph(model), (example,), dynamic_shapes=any_size(), strict=False)
        except Exception as error:  # the tracer and whatever the network's own code runs into
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = reason or (lines[0] if lines else type(error).__name__)
    raise ConfigError(
        f"encoder={model.encoder.name}: cannot be exported for images of any size: {reason[:160]}; "
        "its bundle runs in torch"
    )


def unknown_sizes() -> Any:
    """Batch, height and width as unknowns of which nothing is assumed; newer versions of torch have them."""
    from torch.fx.experimental.dynamic_spec import ParamsSpec, ShapeVar, TensorSpec

    batch, height, width = (ShapeVar(name, min=1) for name in ("batch", "height", "width"))
    return ParamsSpec({INPUT: TensorSpec([batch, None, height, width])})


def varying_sizes() -> Any:
    """Sizes that vary from those of the example. More networks can be traced so (attention in windows)."""
    return {INPUT: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}


SIZES: tuple[Callable[[], Any], ...] = (unknown_sizes, varying_sizes)
"""Ways to trace a graph, the stricter one first. The second may take for granted what held for the example; such a file
does not pass its check at other sizes."""
