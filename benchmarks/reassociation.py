"""Time of prediction with the decoder as written and composed, alternating: `python -m benchmarks.reassociation`.

Prints the milliseconds of one 512x512 image and their ratio for each encoder and precision in PyTorch, and with
`--exports` also in OpenVINO and ONNX Runtime. `--processor-time` counts the processor's time on one thread instead of
the clock's, which other programs on the machine disturb less.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pyramidseg.backends import ModelBackend, TorchBackend, make_backend
from pyramidseg.base.device import has_fast_bf16
from pyramidseg.export.export_model import export_model
from pyramidseg.model.segmenter import Segmenter

ENCODERS = ("resnet18", "tf_efficientnet_lite0", "resnet50")
EXPORTS = {"openvino": ("fp32", "bf16"), "onnx": ("fp32",)}
ROUNDS = 9


def median_ms(first: ModelBackend, second: ModelBackend, image: Tensor, clock: Callable[[], float]) -> list[float]:
    """Median milliseconds of both, in alternating runs after one of each."""
    times: list[list[float]] = [[], []]
    for round in range(ROUNDS + 1):
        for backend, own in zip((first, second), times, strict=True):
            started = clock()
            backend.coarse_logits(image)
            if round:
                own.append(1000 * (clock() - started))
    return [statistics.median(own) for own in times]


def exported(model: Segmenter, folder: Path, *, format: str, precision: str, as_written: bool) -> ModelBackend:
    """The model exported to a format, in its runtime on the CPU."""
    bundle = folder / f"{format}-{precision}-{as_written}.safetensors"
    model.save(bundle)
    export = export_model(bundle, format=format, precision=precision, as_written=as_written)
    assert export.path is not None, export.findings
    return make_backend(export.path, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--exports", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    if arguments.processor_time:
        torch.set_num_threads(1)
    image = torch.randint(0, 256, (1, 3, 512, 512), dtype=torch.uint8)
    print(f"{'encoder':24}{'runtime':12}{'precision':>10}{'as written':>12}{'composed':>10}{'ratio':>7}")
    for encoder in ENCODERS:
        torch.manual_seed(0)
        model = Segmenter(encoder=encoder, encoder_weights="none", num_classes=19).eval()
        for precision in ("fp32", "bf16") if has_fast_bf16(torch.device("cpu")) else ("fp32",):
            both = [TorchBackend(model, device="cpu", precision=precision, as_written=way) for way in (True, False)]
            show(encoder, "torch", precision, *median_ms(*both, image, clock))
        for format, precisions in EXPORTS.items() if arguments.exports else ():
            for precision in precisions:
                with tempfile.TemporaryDirectory() as folder:
                    both = [
                        exported(model, Path(folder), format=format, precision=precision, as_written=way)
                        for way in (True, False)
                    ]
                    show(encoder, format, precision, *median_ms(*both, image, clock))


def show(encoder: str, runtime: str, precision: str, written_ms: float, composed_ms: float) -> None:
    """Print a row."""
    ratio = written_ms / composed_ms
    print(f"{encoder:24}{runtime:12}{precision:>10}{written_ms:12.0f}{composed_ms:10.0f}{ratio:7.2f}", flush=True)


if __name__ == "__main__":
    main()
