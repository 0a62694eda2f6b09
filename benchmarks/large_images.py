"""Peak memory and time of predicting synthetic scenes of several sizes in windows.

    python -m benchmarks.large_images [--sides 4096 16384] [--tile 1024] [--model BUNDLE]

Every scene is a tiled GeoTIFF of three bands, predicted in a process of its own. Without a model, a mean over 4 x 4
pixels stands for the network, so that reading, blending and writing are measured; a network's memory for one window
comes on top, whatever the size of the scene.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch


class CellMeans:
    """Six classes by the mean colour of 4 x 4 pixels."""

    name = "cell means"
    in_channels = 3

    def __init__(self) -> None:
        from pyramidseg.backends import LogitGeometry
        from pyramidseg.base.classes import Classes

        self.classes = Classes.from_names(["red", "green", "blue", "dark", "bright", "grey"])
        self.geometry = LogitGeometry(stride=4, align_corners=False)

    @torch.inference_mode()
    def coarse_logits(self, images: torch.Tensor) -> torch.Tensor:
        means = torch.nn.functional.avg_pool2d(images.float(), 4, ceil_mode=True)
        bright = means.mean(dim=1, keepdim=True)
        return torch.cat((means, 200 - bright, bright, 1.2 * bright - 20), dim=1)


def make_scene(path: Path, side: int) -> None:
    """Squares of 64 pixels in random colours, written in rows of tiles."""
    import rasterio
    from rasterio.windows import Window

    generator = np.random.default_rng(0)
    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "photometric": "RGB"}
    place = {"crs": "EPSG:32616", "transform": rasterio.Affine(0.5, 0, 733601, 0, -0.5, 3725139)}
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=3, dtype="uint8", **options, **place
    ) as f:
        for top in range(0, side, 512):
            rows = min(512, side - top)
            colors = generator.integers(0, 256, (3, 8, -(-side // 64)), dtype=np.uint8)
            pixels = colors.repeat(64, axis=1).repeat(64, axis=2)[:, :rows, :side]
            f.write(pixels, window=Window(0, top, side, rows))


def predict(path: Path, out: Path, tile: int, model: str | None) -> None:
    """Predict in this process, and print its peak memory in MiB before and after, and the seconds."""
    import pyramidseg.images.file_checks as file_checks
    from pyramidseg.predict.predict_files import predict_files
    from pyramidseg.predict.predictor import Predictor

    file_checks.MAX_PIXELS = 0  # small scenes, too, are predicted in windows
    predictor = Predictor(model or CellMeans(), tile_px=tile, overlap_px=tile // 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    summary = predict_files(predictor, [path], out)
    seconds = time.perf_counter() - start
    assert not summary.failed, summary.failed
    print(before // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, f"{seconds:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--model")
    parser.add_argument("--scene", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.scene:
        predict(Path(arguments.scene), Path(arguments.scene).parent / "out", arguments.tile, arguments.model)
        return
    print("| side | megapixels | MiB before | peak MiB | seconds | labels in MB |\n|---|---|---|---|---|---|")
    for side in arguments.sides:
        with tempfile.TemporaryDirectory() as folder:
            scene = Path(folder) / "scene.tif"
            make_scene(scene, side)
            command = [sys.executable, "-m", "benchmarks.large_images", "--tile", str(arguments.tile)]
            command += ["--scene", str(scene)] + (["--model", arguments.model] if arguments.model else [])
            before, peak, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[
                -3:
            ]
            size = (Path(folder) / "out" / "scene_mask.tif").stat().st_size / 1e6
        print(f"| {side} | {side**2 / 1e6:.0f} | {before} | {peak} | {seconds} | {size:.1f} |", flush=True)


if __name__ == "__main__":
    main()
