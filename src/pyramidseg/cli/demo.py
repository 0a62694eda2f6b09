"""pyramidseg demo: made scenes, training, evaluation, prediction and report in one command."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HELP = "draw street scenes, train on them, evaluate, predict and report"

TRAIN_SCENES, VAL_SCENES, NEW_SCENES = 600, 60, 6
EPOCHS = 4
HEIGHT, WIDTH = 160, 208

SETTINGS = {
    "model.encoder": "resnet18",
    "model.encoder_weights": "none",
    "model.coarsest_stride": 16,
    "model.pyramid_channels": 64,
    "data.crop": (128, 160),
    "data.scale": (0.75, 1.5),
    "train.batch_size": 4,
    "train.val_batch_size": 8,
    "optim.ema": 0.99,
}
"""Small images from random weights in minutes, on processors without bfloat16 too: a narrow pyramid, without the stage
that has two thirds of all weights."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `demo`."""
    parser.add_argument("--out", metavar="DIR", default="runs/demo", help="folder for everything (runs/demo)")
    parser.add_argument("--scenes", type=int, default=TRAIN_SCENES, help=f"training scenes ({TRAIN_SCENES})")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"passes over them ({EPOCHS})")
    parser.add_argument("--overwrite", action="store_true", help="discard an earlier demo in DIR")


def run(arguments: argparse.Namespace) -> int:
    """The whole way, once: scenes, training, evaluation, prediction."""
    from pathlib import Path

    from pyramidseg.base.errors import ConfigError
    from pyramidseg.base.overrides import load_config
    from pyramidseg.demo.scenes import write_scenes
    from pyramidseg.predict.predict_files import predict_files
    from pyramidseg.predict.predictor import Predictor
    from pyramidseg.training.loop import fit

    out = Path(arguments.out)
    config = load_config(overrides={**SETTINGS, "train.epochs": arguments.epochs})
    if arguments.scenes < 1:
        raise ConfigError(f"--scenes {arguments.scenes}: at least 1 is needed to train on")
    discard_earlier_demo(out, overwrite=arguments.overwrite)
    print(f"drawing {arguments.scenes + VAL_SCENES} street scenes of {WIDTH}x{HEIGHT}")
    dataset = write_scenes(out / "scenes", train=arguments.scenes, val=VAL_SCENES, height=HEIGHT, width=WIDTH)
    run = fit(
        config,
        dataset,
        out=out / "run",
        resume=False,
        overwrite=False,
    )
    predictor = Predictor(run.best)
    new = write_new_scenes(out / "new", first=arguments.scenes + VAL_SCENES)
    predict_files(predictor, [new], out / "predictions", save=("overlay",))
    print(
        f"""validation mIoU {run.miou:.3f}
report    {run.report}
overlays  {out / "predictions"}
model     {run.best}
next      pyramidseg predict {run.best} YOUR_IMAGES --out predictions"""
    )
    return 0


def discard_earlier_demo(out: "Path", *, overwrite: bool) -> None:
    """Delete what an earlier demo left, if asked; anything else in the way is refused.

    A demo is known by the file that it writes first. That is deleted last: interrupted, both can be done once more.
    """
    from pyramidseg.base.errors import OutputError

    known_by = out / "scenes" / "dataset.yaml"
    if not out.is_file() and not any(path.is_file() for path in out.rglob("*")):
        return
    if not overwrite:
        raise OutputError(f"{out}: exists already; --overwrite discards an earlier demo, or choose another --out")
    if not known_by.is_file():
        raise OutputError(f"{out}: is no earlier demo, as scenes/dataset.yaml is not in it; choose another --out")
    for path in sorted(out.rglob("*"), reverse=True):  # what lies in a folder before the folder
        if path in (known_by, known_by.parent):
            continue
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    known_by.unlink()


def write_new_scenes(folder: "Path", *, first: int) -> "Path":
    """Scenes that training has not seen, larger than those it saw, as people's images would be."""
    from pyramidseg.base.files import make_folder
    from pyramidseg.demo.scenes import draw_scene, write_picture

    make_folder(folder)
    for index in range(NEW_SCENES):
        write_picture(folder / f"new_{index}.png", draw_scene(first + index, height=2 * HEIGHT, width=2 * WIDTH).image)
    return folder
