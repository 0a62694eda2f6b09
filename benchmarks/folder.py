"""A folder of images, from files to label maps, against the bare model on ready tensors: alternating, medians.

    python benchmarks/folder.py [--encoder resnet18] [--images 32] [--side 512] [--batch-size 4] [--precision fp32]

The bare model turns batches of decoded images into coarse logits and throws them away: nothing is decoded, upsampled,
turned into labels or written. `predict_many` decodes PNG files and makes label maps; `predict_files`, which is
`pyramidseg predict`, writes them as well. The share of the bare model's rate is what is asked for. Figures: README.md
beside this file.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import torch

from pyramidseg.data.images import read_image
from pyramidseg.data.synthetic.scenes import draw_scene
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.backends import make_backend
from pyramidseg.predict.files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.processors import stage_threads, use_available_processors

ROUNDS = 5


def main() -> None:
    """Time the three and print images a second and shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    arguments = parser.parse_args()
    use_available_processors()
    model = Segmenter(encoder=arguments.encoder, encoder_weights="none", num_classes=arguments.classes)
    predictor = Predictor(make_backend(model, device=arguments.device, precision=arguments.precision))
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder) / "images", count=arguments.images, side=arguments.side)
        images = [torch.from_numpy(read_image(path, channels=3)).permute(2, 0, 1) for path in paths]
        batches = [torch.stack(some) for some in chunks(images, arguments.batch_size)]
        contestants: dict[str, Callable[[], object]] = {
            "bare model": lambda: [finish(predictor.backend.coarse_logits(batch)) for batch in batches],
            "predict_many": lambda: exhaust(predictor.predict_many(paths, batch_size=arguments.batch_size)),
            "predict_files": lambda: predict_files(
                predictor, [Path(folder) / "images"], Path(folder) / "out", batch_size=arguments.batch_size
            ),
        }
        print(
            f"{predictor.backend}, {arguments.encoder}, {arguments.images} images of "
            f"{arguments.side}x{arguments.side}, batches of {arguments.batch_size}, "
            f"{torch.get_num_threads()} threads for the model, {stage_threads()} to decode"
        )
        compare(contestants, images=arguments.images)


def compare(contestants: dict[str, Callable[[], object]], *, images: int) -> None:
    """Alternate, after a warm-up, and print medians."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(ROUNDS + 1):
        for name, once in contestants.items():
            began = time.perf_counter()
            once()
            if turn:
                rates[name].append(images / (time.perf_counter() - began))
    for name, rounds in rates.items():
        share = statistics.median(rate / bare for rate, bare in zip(rounds, rates["bare model"], strict=True))
        print(f"{name:<14} {statistics.median(rounds):7.1f} images/s  {100 * share:5.1f} % of the bare model")


def write_images(folder: Path, *, count: int, side: int) -> list[Path]:
    """Made scenes as PNG files; a few different ones, over and over."""
    folder.mkdir()
    scenes = [draw_scene(index, height=side, width=side).image[:, :, ::-1] for index in range(min(count, 8))]
    paths = [folder / f"{index:05}.png" for index in range(count)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), scenes[index % len(scenes)])
    return paths


def chunks(images: list[torch.Tensor], size: int) -> list[list[torch.Tensor]]:
    """Successive lists of that many."""
    return [images[start : start + size] for start in range(0, len(images), size)]


def finish(logits: torch.Tensor) -> None:
    """Wait until a GPU has computed them."""
    if logits.device.type == "cuda":
        torch.cuda.synchronize(logits.device)


def exhaust(items: Iterable[object]) -> None:
    """Take all, keep none."""
    for _ in items:
        pass


if __name__ == "__main__":
    main()
