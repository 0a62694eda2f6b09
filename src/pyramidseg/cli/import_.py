"""import: convert a checkpoint of another library to a bundle."""

import argparse
import logging
from pathlib import Path

from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.text import show
from pyramidseg.cli.flags import comma_list, comma_numbers, values_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="a file of weights, or a folder with config.json")
    add("--from", dest="library", required=True, metavar="LIBRARY", help="smp")
    add("--out", required=True, metavar="FILE", help="bundle to write, FILE.safetensors")
    add("--overwrite", action="store_true", help="replace FILE")
    text = "class names in the order of the logits (default: class 0, class 1, ...)"
    add("--classes", type=comma_list(), default=(), metavar="A,B,...", help=text)
    add("--encoder", metavar="NAME", help="the encoder's name in LIBRARY (default: that of config.json)")
    add("--dropout", type=float, metavar="RATE", help="spatial dropout rate for further training (default: 0.2)")
    text = "upsampling of the top-down path: nearest or bilinear (default: nearest)"
    add("--interpolation", metavar="MODE", help=text)
    text = "mean that was subtracted from images (default: the encoder's)"
    add("--mean", type=comma_numbers, default=(), metavar="R,G,B", help=text)
    text = "deviation that they were divided by (default: the encoder's)"
    add("--std", type=comma_numbers, default=(), metavar="R,G,B", help=text)
    add("--input-range", type=float, default=1.0, metavar="MAX", help="largest value before --mean: 1 or 255")
    add("--prefix", metavar="TEXT", help="prefix of the tensors' names if FILE holds several networks (default: found)")


def run(arguments: argparse.Namespace) -> int:
    """Import, report what was found and assumed, and write the bundle."""
    from pyramidseg.base.output_lock import locked
    from pyramidseg.model.imports.foreign_checkpoint import ImportOptions
    from pyramidseg.model.imports.smp import import_checkpoint

    out = Path(arguments.out)
    if out.suffix != ".safetensors":
        raise ConfigError(
            f"--out {out}: a bundle is a .safetensors file; write --out {out.with_suffix('.safetensors')}"
        )
    names = ("encoder", "classes", "dropout", "interpolation", "mean", "std", "input_range", "prefix")
    options = ImportOptions(**values_of(arguments, *names))
    with locked(out.parent, file=out.name):
        if out.exists() and not arguments.overwrite:
            raise OutputError(f"--out {out}: exists already; choose another file, or replace it with --overwrite")
        imported = import_checkpoint(arguments.checkpoint, library=arguments.library, options=options)
        for note in imported.notes:
            logging.getLogger(__name__).info(note)
        imported.model.save(out, facts=imported.facts)
    show(f"imported: {out}")
    return 0
