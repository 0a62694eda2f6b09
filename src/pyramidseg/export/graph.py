"""The graph that every format is converted from: one `torch.export` program for images of any size.

Legend: B batch, C channels, H W pixels, K classes, h w points of the finest stride.
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
from pyramidseg.base.text import first_line
from pyramidseg.model.inference import inference_copy, logits_of_padded
from pyramidseg.model.segmenter import Segmenter

DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Type of encoder, decoder and classifier, by precision. Normalisation, logits and upsampling are always float32."""


class Graph(nn.Module):
    """What an exported file computes: images (B, C, H, W) of the input type to logits, in float32.

    `logits` (B, K, H, W) are for other programs; `coarse_logits` (B, K, h, w) are what `predict` uses (`label_maps`).
    """

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model
        self.stride = model.settings.coarsest_stride
        self.geometry = LogitGeometry(model.settings.finest_stride, model.settings.align_corners)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        # Not `Segmenter.pad`, which branches on whether padding is needed: the graph has to be valid for every size.
        # And without its modulo: the tracer sees that "stride * rows" is divisible, and keeps formulas short.
        rows, columns = ((side + self.stride - 1) // self.stride for side in (height, width))
        bottom, right = rows * self.stride - height, columns * self.stride - width
        padded = F.pad(self.model.normalize(images), (0, right, 0, bottom))
        coarse = logits_of_padded(self.model, padded).float()
        return self.geometry.upsample(coarse, height, width), coarse


def capture(
    segmenter: Segmenter,
    *,
    precision: str,
    input_dtype: str,
    as_written: bool = False,
    change: Callable[[nn.Module], nn.Module] = lambda graph: graph,
    shape: tuple[int, int, int] | None = None,
) -> ExportedProgram:
    """Trace a model on the CPU, for any batch size, height and width from 1, or for one shape.

    Args:
        change: what is traced instead of a `Graph`.
        shape: batch, height and width.

    Raises:
        ConfigError: the encoder depends on the image in a way that a graph cannot represent.
    """
    model = inference_copy(segmenter, dtype=DTYPES[precision], as_written=as_written, for_graph=True).cpu()
    graph, stride = change(Graph(model)), model.settings.coarsest_stride
    # Different sizes that need padding: what sizes have in common, the tracer would take as always true.
    batch, height, width = shape or (2, 2 * stride + 6, 3 * stride + 5)
    example = torch.zeros(batch, model.settings.in_channels, height, width, dtype=INPUT_DTYPES[input_dtype])
    # Sizes of 0 and 1 are not specialised, so that the graph also works for a single pixel.
    oblivious = shape_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    errors = []
    for sizes in SIZES if shape is None else (lambda: None,):
        try:
            with oblivious, redirect_stderr(StringIO()):  # torch prints the partial graph of a failed trace
                return torch.export.export(graph, (example,), dynamic_shapes=sizes(), strict=False)
        except Exception as error:  # of the tracer, or of the network's own code
            errors.append(error)
    raise ConfigError(
        f"encoder {model.encoder.name}: cannot be exported for images of "
        f"{'any size' if shape is None else f'{height}x{width}'}: {first_line(errors[0], max_chars=160)}; use the "
        "bundle in torch"
    ) from errors[0]


def unknown_sizes() -> Any:
    """Batch, height and width as unknowns without assumptions; needs a recent version of torch."""
    from torch.fx.experimental.dynamic_spec import ParamsSpec, ShapeVar, TensorSpec

    batch, height, width = (ShapeVar(name, min=1) for name in ("batch", "height", "width"))
    return ParamsSpec({INPUT: TensorSpec([batch, None, height, width])})


def varying_sizes() -> Any:
    """Dynamic sizes. Traces more networks (windowed attention)."""
    return {INPUT: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}


SIZES: tuple[Callable[[], Any], ...] = (unknown_sizes, varying_sizes)
"""Ways to trace a graph, the stricter one first. The second may assume what is true of the example only; such a file
fails its parity check at other sizes."""
