"""pyramidseg import: another library's checkpoint as a bundle."""

import argparse

HELP = "convert a checkpoint of another library to a bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `import`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a file of weights, or a saved folder (config.json)")
    parser.add_argument("--from", dest="library", required=True, metavar="LIBRARY", help="smp")
    parser.add_argument("--out", required=True, metavar="FILE", help="bundle to write, FILE.safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.add_argument("--classes", metavar="A,B,...", help="class names in the order of the logits")
    parser.add_argument("--encoder", metavar="NAME", help="the encoder as LIBRARY calls it, without config.json")
    parser.add_argument("--dropout", type=float, metavar="RATE", help="spatial dropout rate for further training")
    parser.add_argument("--interpolation", metavar="MODE", help="upsampling of the top-down path: nearest or bilinear")
    parser.add_argument("--mean", metavar="R,G,B", help="mean that was subtracted from images")
    parser.add_argument("--std", metavar="R,G,B", help="standard deviation that they were divided by")
    parser.add_argument(
        "--input-range",
        type=float,
        default=1.0,
        metavar="MAX",
        help="largest value of images, 1 or 255 (default: 1)",
    )
    parser.add_argument("--prefix", metavar="TEXT", help="prefix of tensor names, if there are several networks")


def run(arguments: argparse.Namespace) -> int:
    """Import, print what was found and assumed, and write the bundle."""
    from pathlib import Path

    from pyramidseg.base.errors import ConfigError, OutputError
    from pyramidseg.model.imports import import_checkpoint
    from pyramidseg.model.imports.foreign_checkpoint import ImportOptions

    out = Path(arguments.out)
    if out.suffix != ".safetensors":
        raise ConfigError(
            f"--out {out}: a bundle is a .safetensors file; write --out {out.with_suffix('.safetensors')}"
        )
    if out.exists() and not arguments.overwrite:
        raise OutputError(f"--out {out}: exists already; choose another, or --overwrite")
    names = arguments.classes or ""
    options = ImportOptions(
        encoder=arguments.encoder,
        classes=tuple(name.strip() for name in names.split(",") if name.strip()),
        dropout=arguments.dropout,
        interpolation=arguments.interpolation,
        mean=numbers("--mean", arguments.mean),
        std=numbers("--std", arguments.std),
        input_range=arguments.input_range,
        prefix=arguments.prefix,
    )
    imported = import_checkpoint(arguments.checkpoint, library=arguments.library, options=options)
    for note in imported.notes:
        print(note)
    imported.model.save(out, **imported.facts)
    print(f"imported: {out}")
    return 0


def numbers(flag: str, text: str | None) -> tuple[float, ...]:
    """Comma-separated numbers; none where the flag was not given."""
    from pyramidseg.base.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(f"{flag} {text}: write numbers with commas between, such as 0.485,0.456,0.406") from None
