"""pyramidseg predict: label maps of files, folders and globs."""

import argparse

HELP = "segment images; leaves a label map for each in DIR"

FINDINGS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `predict`."""
    parser.add_argument("model", metavar="MODEL", help="a bundle, such as RUN/best.safetensors")
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="images, folders or globs")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--save", default="mask", help="comma-separated: mask, overlay, color, confidence, probabilities"
    )
    parser.add_argument("--backend", default="auto", help="auto or torch")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--tta", action="store_true", help="average over flips and scales")
    parser.set_defaults(collect="sources")


def run(arguments: argparse.Namespace) -> int:
    """Predict everything that can be read; status 3 where something could not."""
    from pyramidseg.console import Console
    from pyramidseg.predict.files import predict_files
    from pyramidseg.predict.predictor import Predictor

    console = Console()
    predictor = Predictor(arguments.model, backend=arguments.backend, device=arguments.device, tta=arguments.tta)
    console.say(f"backend {predictor.backend}")
    save = tuple(name.strip() for name in arguments.save.split(",") if name.strip())
    summary = predict_files(predictor, arguments.sources, arguments.out, save=save, track=console.track)
    for entry in summary.failed:
        console.warn(f"not predicted: {entry.error}")
    done = len(summary.predictions) - len(summary.failed)
    if len(summary.predictions) == 1 and done:
        for name, share in (summary.predictions[0].shares or {}).items():
            console.say(f"{100 * share:5.1f} %  {name}")
    console.say(f"{done} of {len(summary.predictions)} images predicted: {summary.out}")
    return FINDINGS if summary.failed else 0
