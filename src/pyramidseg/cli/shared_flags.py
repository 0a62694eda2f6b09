"""How a model is run: the flags that `predict` and `evaluate` share."""

import argparse
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pyramidseg.predict.tile_planner import TilePx


def add_running_arguments(parser: argparse.ArgumentParser) -> None:
    """Backend, device and precision, flips and scales, tiles, and the batch."""
    parser.add_argument(
        "--backend", default="auto", help="auto, torch, torch-compiled, torch-exported, onnxruntime or openvino"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--precision", default="auto", help="auto (fp32, or the exported file's own), fp32 or bf16")
    parser.add_argument("--tta", action="store_true", help="average over flips and scales")
    parser.add_argument(
        "--tile", default="auto", metavar="PX", help="side of the windows of large images; auto, or whole for none"
    )
    parser.add_argument("--overlap", type=int, metavar="PX", help="of neighbouring windows")
    parser.add_argument("--batch-size", type=int, default=4, help="images at once, where they are of one size (4)")


def tile_side(text: str) -> "TilePx":
    """A number of pixels, or a word that `TilePlanner` knows or refuses."""
    return int(text) if text.isdecimal() else cast("TilePx", text)
