"""pyramidseg describe: what a model is made of, level by level."""

import argparse

HELP = "levels, shapes, parameters and GMAC of a bundle or an encoder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `describe`."""
    parser.add_argument("model", metavar="MODEL|ENCODER", help="a bundle, or an encoder such as resnet50")
    parser.add_argument("settings", nargs="*", default=[], metavar="key=value", help="model settings, with an encoder")
    parser.add_argument("--size", default="512x512", help="image size in pixels, height x width (512x512)")
    parser.add_argument("--classes", type=int, default=19, help="number of classes, with an encoder (19)")
    parser.add_argument("--image", metavar="FILE", help="draw the pyramid's maps of this image, with a bundle")
    parser.add_argument("--out", metavar="FILE", default="pyramid.png", help="where --image draws to (pyramid.png)")
    parser.set_defaults(collect="settings")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, and draw the pyramid where asked."""
    raise NotImplementedError
