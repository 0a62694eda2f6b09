"""A video, from file to mask and overlay video, against the bare model on ready tensors, and against a folder of PNG.

    python -m benchmarks.video --model RUN/best.safetensors --video CLIP [--frames 60] [--rounds 3]

The bare model turns batches of decoded frames into coarse logits and throws them away. Rounds take turns; printed are
medians, and the median of the ratios within each round.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import torch
from PIL import Image

from pyramidseg.base.timing import alternate
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predict_videos import VideoOptions
from pyramidseg.predict.predictor import Predictor

BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--video", required=True)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    predictor = Predictor(arguments.model, device=arguments.device)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = cut(arguments.video, folder / "clip.mp4", arguments.frames)
        (folder / "stills").mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / f"stills/{number:05}.png")
        batches = torch.stack([torch.from_numpy(frame) for frame in frames]).permute(0, 3, 1, 2).split(BATCH)

        def bare() -> None:
            for batch in batches:
                logits = predictor.backend.coarse_logits(batch)
            if logits.device.type == "cuda":
                torch.cuda.synchronize(logits.device)

        def predict(source: str, save: tuple[str, ...], **options: Fraction) -> None:
            out = folder / "out" / "-".join((source, *save))
            video = VideoOptions(**options)
            predict_files(predictor, [folder / source], out, save=save, batch_size=BATCH, overwrite=True, video=video)

        contestants: dict[str, Callable[[], None]] = {
            "bare model": bare,
            "folder of PNG to masks": lambda: predict("stills", ("mask",)),
            "video to mask video": lambda: predict("clip.mp4", ("mask",)),
            "video to mask and overlay video": lambda: predict("clip.mp4", ("mask", "video")),
            "folder of PNG to mask and overlay video": lambda: predict("stills", ("video",), fps=Fraction(25)),
        }
        timings = alternate(contestants, rounds=arguments.rounds, warmup=1)
    height, width = frames[0].shape[:2]
    print(f"{len(frames)} frames of {width}x{height}, {predictor.backend}, {arguments.rounds} rounds\n")
    print("| contestant | frames/s | share of the bare model's rate |\n|---|---|---|")
    for name, own in timings.items():
        print(f"| {name} | {len(frames) / own.median:.1f} | {timings['bare model'].ratio_to(own):.2f} |")


def cut(video: str, target: Path, number: int) -> list:
    """Copy the first frames of a video; returns them as (H, W, 3) uint8 RGB."""
    with av.open(video) as container, av.open(str(target), "w") as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        for packet in itertools.islice(container.demux(video=0), number):
            packet.stream = stream
            copy.mux(packet)
    with av.open(str(target)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


if __name__ == "__main__":
    main()
