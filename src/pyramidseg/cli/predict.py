"""pyramidseg predict: label maps of files, folders and globs."""

import argparse
import logging

from pyramidseg.cli.shared_flags import add_running_arguments, tile_side

logger = logging.getLogger(__name__)

HELP = "segment images; leaves a label map for each in DIR"

FINDINGS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `predict`."""
    parser.add_argument("model", metavar="MODEL", help="a bundle such as RUN/best.safetensors, or its export")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="images, folders or globs")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--save", default="mask", help="comma-separated: mask, overlay, color, confidence, probabilities, geotiff"
    )
    add_running_arguments(parser)
    parser.set_defaults(collect="sources")


def run(arguments: argparse.Namespace) -> int:
    """Predict everything that can be read; status 3 where something could not."""
    from pyramidseg.backends import make_backend
    from pyramidseg.predict.predict_files import SUMMARY_FILE, predict_files
    from pyramidseg.predict.predictor import Predictor

    backend = make_backend(arguments.model, arguments.backend, device=arguments.device, precision=arguments.precision)
    predictor = Predictor(backend, tta=arguments.tta, tile_px=tile_side(arguments.tile), overlap_px=arguments.overlap)
    print(f"backend {predictor.backend}")
    save = tuple(name.strip() for name in arguments.save.split(",") if name.strip())
    summary = predict_files(
        predictor,
        arguments.sources,
        arguments.out,
        save=save,
        batch_size=arguments.batch_size,
    )
    for entry in summary.failed:
        logger.warning(f"not predicted: {entry.error}")
    done = summary.images - len(summary.failed)
    if summary.images == 1 and summary.last is not None:
        for name, share in (summary.last.shares or {}).items():
            print(f"{100 * share:5.1f} %  {name}")
    if summary.tiled:
        print(f"{summary.tiled} in tiles; {SUMMARY_FILE} says of which size")
    print(f"{done} of {summary.images} images predicted: {summary.out}")
    return FINDINGS if summary.failed else 0
