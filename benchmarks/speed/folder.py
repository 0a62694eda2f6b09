"""A folder of images, from files to label maps, against the bare model on ready tensors.

The bare model turns batches of decoded images into coarse logits and throws them away: nothing is decoded, upsampled,
turned into labels or written. `predict_many` decodes PNG files and makes label maps; `predict_files`, which is
`pyramidseg predict`, writes them as well. The share of the bare model's rate is what is asked for; how near that one
comes to the convolutions' floor stands beside it.
"""

import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import cv2
import torch
from benchmarks.speed.rows import Row, timed_rows
from benchmarks.speed.settings import Bench
from torch import Tensor

from pyramidseg.backends import TorchBackend
from pyramidseg.base.device import has_fast_bf16
from pyramidseg.base.timing import alternate
from pyramidseg.model.cost import describe_cost
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.studies.benchmark_images import scene_images

BATCH = 4
"""As `pyramidseg predict` has it."""

BARE, MANY, FILES = "bare model", "predict_many", "pyramidseg predict"


def measure_folder(bench: Bench) -> list[Row]:
    """The first encoder's default network in torch, in both precisions."""
    settings, device = bench.settings, bench.device
    encoder, side = settings.encoders[0], settings.side_px
    bundle = bench.workshop.files(encoder).bundle("default")
    macs = settings.images * describe_cost(Segmenter.load(bundle), side, side).macs
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = scene_images(settings.images, channels=3, height=side, width=side)
        paths = write_images(folder / "images", images)
        for precision in ("fp32", "bf16") if has_fast_bf16(device) else ("fp32",):
            bench.say(f"folder: {len(paths)} images, {encoder} in {precision}")
            predictor = Predictor(TorchBackend(bundle, device=device, precision=precision))
            calls = {
                BARE: partial(_bare, predictor, images.split(BATCH)),
                MANY: lambda predictor=predictor: _exhaust(predictor.predict_many(paths, batch_size=BATCH)),
                FILES: partial(
                    predict_files, predictor, [folder / "images"], folder / "out", batch_size=BATCH, overwrite=True
                ),
            }
            timings = alternate(calls, rounds=settings.batch_rounds, warmup=1, device=device)
            rows += timed_rows(
                f"{encoder} with smoothing, {precision}, {len(paths)} files of {side}x{side}",
                timings,
                peers=[BARE],
                images=len(paths),
                shares={who: bench.roofline.share(macs, precision, timing.median) for who, timing in timings.items()},
            )
    return rows


def write_images(folder: Path, images: Tensor) -> list[Path]:
    """(B, 3, H, W) uint8 as PNG files."""
    folder.mkdir()
    paths = [folder / f"{index:05}.png" for index in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image.permute(1, 2, 0).numpy()[:, :, ::-1])
    return paths


def _bare(predictor: Predictor, batches: Iterable[Tensor]) -> None:
    for batch in batches:
        logits = predictor.backend.coarse_logits(batch)
        if logits.device.type == "cuda":
            torch.cuda.synchronize(logits.device)


def _exhaust(items: Iterable[object]) -> None:
    """Take all, keep none."""
    for _ in items:
        pass
