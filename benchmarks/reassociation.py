"""Time of prediction with the decoder as written and composed, alternating: `python -m benchmarks.reassociation`.

Prints, for each encoder and precision, the multiplications and the milliseconds of one 512x512 image both ways, their
ratio, and the share that the multiplications of each way would take at the rate of convolutions alone: in PyTorch, and
with `--exports` also in OpenVINO and ONNX Runtime. `--without-smoothing` measures the network of
segmentation_models.pytorch instead of the default. `--processor-time` counts the processor's time on one thread instead
of the clock's, which other programs on the machine disturb less.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pyramidseg.backends import ModelBackend, TorchBackend, make_backend
from pyramidseg.base.device import has_fast_bf16
from pyramidseg.export.export_model import export_model
from pyramidseg.model.inference import inference_copy, logits_of_padded
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.studies.roofline import Roofline, measure_roofline

ENCODERS = ("resnet18", "tf_efficientnet_lite0", "efficientnet_b0", "resnet50")
EXPORTS = {"openvino": ("fp32", "bf16"), "onnx": ("fp32",)}
ROUNDS = 9
SIDE_PX = 512


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
    assert export.path is not None, export.parity and export.parity.findings()
    return make_backend(export.path, device="cpu")


def multiplications(model: Segmenter, *, as_written: bool) -> int:
    """Those of one image."""
    copy = inference_copy(model, as_written=as_written).to("meta")
    image = torch.empty(1, model.settings.in_channels, SIDE_PX, SIDE_PX, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        logits_of_padded(copy, image)
    return counter.get_total_flops() // 2


def row(
    name: str, both: Sequence[ModelBackend], macs: Sequence[int], roofline: Roofline, clock: Callable[[], float]
) -> str:
    """A row of the table: what was measured, and both ways in turn."""
    image = torch.randint(0, 256, (1, 3, SIDE_PX, SIDE_PX), dtype=torch.uint8)
    times = median_ms(*both, image, clock)
    shares = [roofline.share(count, both[0].precision, ms / 1000) for count, ms in zip(macs, times, strict=True)]
    cells = [f"{count / 1e9:.1f}" for count in macs] + [f"{ms:.1f}" for ms in times] + [f"{times[0] / times[1]:.2f}"]
    return f"| {name} | {' | '.join(cells)} | {' and '.join(f'{share:.0%}' for share in shares if share)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--exports", action="store_true")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--without-smoothing", action="store_true")
    parser.add_argument("--encoders", default=",".join(ENCODERS))
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    if arguments.processor_time:
        torch.set_num_threads(1)
    roofline = measure_roofline(torch.device("cpu"))
    print(f"{torch.get_num_threads()} threads; {roofline}")
    precisions = ("fp32", "bf16") if has_fast_bf16(torch.device("cpu")) else ("fp32",)
    print(
        "| encoder | runtime | precision | GMAC as written | composed | ms as written | composed | ratio | of floors |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for encoder in arguments.encoders.split(","):
        torch.manual_seed(0)
        model = Segmenter(
            encoder=encoder, encoder_weights="none", num_classes=19, smoothing=not arguments.without_smoothing
        ).eval()
        macs = [multiplications(model, as_written=way) for way in (True, False)]

        for precision in precisions:
            both = [TorchBackend(model, device="cpu", precision=precision, as_written=way) for way in (True, False)]
            print(row(f"{encoder} | torch | {precision}", both, macs, roofline, clock), flush=True)
        for format, supported in EXPORTS.items() if arguments.exports else ():
            for precision in [name for name in supported if name in precisions]:
                with tempfile.TemporaryDirectory() as folder:
                    both = [
                        exported(model, Path(folder), format=format, precision=precision, as_written=way)
                        for way in (True, False)
                    ]
                    print(row(f"{encoder} | {format} | {precision}", both, macs, roofline, clock), flush=True)


if __name__ == "__main__":
    main()
