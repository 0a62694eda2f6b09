"""describe: print levels, shapes, parameters and GMAC of a bundle, an exported file or an encoder."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import show
from pyramidseg.cli.flags import image_size

if TYPE_CHECKING:
    from pyramidseg.model.segmenter import Segmenter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL|ENCODER", help="a bundle, an exported file, or an encoder such as resnet50")
    add("settings", nargs="*", default=[], metavar="key=value", help="settings of the model, with an encoder")
    add("--size", type=image_size, default="512x512", metavar="HxW", help="image size in pixels")
    add("--num-classes", type=int, default=19, help="number of classes, with an encoder")
    parser.set_defaults(collect="settings")


def run(arguments: argparse.Namespace) -> int:
    from pyramidseg.backends import EXPORTED
    from pyramidseg.model.cost import describe_cost

    is_file = Path(arguments.model).suffix in (".safetensors", *EXPORTED) or Path(arguments.model).exists()
    if is_file and arguments.settings:
        raise ConfigError(f"{arguments.settings[0]}: a file has its own settings; leave settings out")
    if Path(arguments.model).suffix in EXPORTED:
        model = open_export(Path(arguments.model))
    else:
        model = open_bundle(arguments.model) if is_file else untrained_model(arguments)
    settings = model.settings.model_dump()
    show("  ".join(f"{name}={value}" for name, value in settings.items()))
    height, width = arguments.size
    cost = describe_cost(model, height, width)
    show(f"\n{'part':<28} {'output':>16} {'parameters':>12} {'GMAC':>9}")
    for part in cost.parts:
        shape = "x".join(map(str, part.shape))
        show(f"{part.name:<28} {shape:>16} {part.parameters:>12,} {part.gmac:>9.3f}")
    show(f"{f'all, {height}x{width}':<28} {'':>16} {cost.parameters:>12,} {cost.gmac:>9.3f}")
    return 0


def open_bundle(path: str) -> "Segmenter":
    """Load a bundle and print what it says about itself."""
    from pyramidseg.model.bundle import read_bundle
    from pyramidseg.model.segmenter import Segmenter

    bundle = read_bundle(path)
    model = Segmenter.from_bundle(bundle)
    show(f"{path}: bundle of pyramidseg {bundle.version}")
    show(f"classes: {', '.join(model.classes.names)}")
    show(f"initial encoder weights: {model.encoder_source.name}")
    show(f"mean {[round(value, 4) for value in model.mean.tolist()]}  std {[round(v, 4) for v in model.std.tolist()]}")
    match bundle.facts:  # may be any that `Segmenter.save` was given
        case {"imported": {"library": library, "file": file, "sha256": digest}}:
            show(f"imported from {library}: {file}, sha256 {digest}")
        case {"metrics": {"miou": float(miou)}, "split": split, "epoch": epoch}:
            show(f"mIoU {miou:.4f} on {split}, epoch {epoch}")
    match bundle.facts:
        case {"data": {"sets": [*names]}}:
            show(f"trained on joined datasets: {', '.join(map(str, names))}")
    return model


def open_export(path: Path) -> "Segmenter":
    """Print what an exported file says about itself; the network that it was exported from, without its weights."""
    from pyramidseg.backends import EXPORTED
    from pyramidseg.model.cost import meta_model

    metadata = EXPORTED[path.suffix].read_metadata(path)
    show(f"{path}: {metadata.precision} export of pyramidseg {metadata.version}, input {metadata.input_dtype}")
    show(f"classes: {', '.join(metadata.classes.names)}")
    show(f"computes: {metadata.program or 'logits and coarse logits'}")
    if metadata.source:
        show(f"exported from: {', '.join(f'{name} {value}' for name, value in metadata.source.items())}")
    if (int8 := metadata.quantization) is not None:
        show(f"quantised by {int8.quantizer} for {int8.target} processors, with {len(int8.images)} images of")
        show(f"  {int8.dataset}, drawn with seed {int8.seed}: {', '.join(int8.images[:3])}, ...")
        show(f"blocks left in float: {', '.join(int8.float_blocks) or 'none'}")
    match metadata.parity:
        case {"miou": [float(before), float(after)]}:
            show(f"mIoU of the check: {before:.4f} as the bundle, {after:.4f} as this file")
    return meta_model(metadata.settings, len(metadata.classes))


def untrained_model(arguments: argparse.Namespace) -> "Segmenter":
    """A model with random weights, from an encoder and settings."""
    from pyramidseg.base.overrides import full_name, load_config, parse_override
    from pyramidseg.model.segmenter import Segmenter

    given = dict(parse_override(text) for text in arguments.settings)
    overrides = {name if "." in name else full_name(name): value for name, value in given.items()}
    # The structure does not depend on the weights, so none are downloaded.
    overrides |= {"model.encoder": arguments.model, "model.encoder_weights": "none"}
    return Segmenter(load_config(overrides=overrides).model, num_classes=arguments.num_classes).eval()
