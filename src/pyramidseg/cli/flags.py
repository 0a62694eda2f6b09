"""Parsers and flags that several commands share; nothing heavy is imported here."""

import argparse
import re
import shlex
from ast import literal_eval
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, cast

from pyramidseg.base.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pyramidseg.base.config import Config
    from pyramidseg.predict.predictor import Predictor
    from pyramidseg.predict.tile_planner import TilePx


FINDINGS = 3
"""Exit status of a command that is done, with findings."""

LABEL_FORMATS = (
    *("masks", "color-masks", "voc", "cvat-masks", "coco", "coco-panoptic", "yolo", "labelme", "cvat-images"),
    *("label-studio", "supervisely", "huggingface", "coco-polygons", "label-studio-polygons", "geojson"),
)
"""Formats that labels are written in; the names of `formats.writers`, which parsing a command line need not import."""


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are `ConfigError`s and whose help shows defaults."""

    def __init__(self, **options: object) -> None:
        super().__init__(formatter_class=DefaultsFormatter, allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message as a ConfigError."""
        advice = "" if message.endswith("?") else f"; {self.prog} --help lists all options"
        raise ConfigError(f"{self.prog}: {message.removeprefix('argument ')}{advice}")

    def unrecognized(self, option: str) -> ConfigError:
        """The error about an option that does not exist, with the nearest ones."""
        known = sorted(name for action in self._actions for name in action.option_strings if name.startswith("--"))
        advice = re.sub("'(.+)'", r"--\1", nearest(option[2:], [name[2:] for name in known]))
        if advice.startswith("known"):
            alike = [name for name in known if name[:3] == option[:3]][:3]
            advice = f"did you mean {' or '.join(alike)}?" if alike else f"known: {', '.join(known)}"
        return ConfigError(f"{self.prog}: unrecognized option {option}; {advice}")


class DefaultsFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help formatter that appends the default of every option, unless it is off or the help mentions it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_off = action.default in (None, False) or not action.option_strings
        return action.help if is_off or "default" in (action.help or "") else super()._get_help_string(action)


def in_options(message: str, flags: Mapping[str, str]) -> str:
    """A message with the option, in `flags`, of each Python argument in backticks: `batch_size=1` as --batch-size 1."""

    def option(found: re.Match[str]) -> str:
        name, _, value = found[1].partition("=")
        if name not in flags:
            return found[0]
        with suppress(SyntaxError, ValueError):  # no value, or text without quotation marks
            given = literal_eval(value)
            words = map(str, given if isinstance(given, tuple) else [given])
            value = "" if given is True else shlex.quote("x".join(words))
        return f"{flags[name]} {value}".rstrip()

    return re.sub("`([^`]+)`", option, message)


# Values: the `type` of options, so that a wrong one is refused before anything is loaded.


def add_simplification(parser: argparse.ArgumentParser) -> None:
    """`--simplify` for outlines."""
    text = (
        "leave out corners of outlines that are at most PX pixels from the new one; neighbours keep their common "
        "border, and the number of pixels that change is printed (default: 0, exact)"
    )
    parser.add_argument("--simplify", dest="simplify_px", type=float, default=0, metavar="PX", help=text)


def add_label_config(parser: argparse.ArgumentParser) -> None:
    """`--label-config` of Label Studio."""
    parser.add_argument(
        "--label-config",
        metavar="FILE",
        help="for label-studio and label-studio-polygons: the labelling configuration (XML) of your project, whose "
        "names and labels regions get (default: a configuration is written)",
    )


def comma_list(*, known: Iterable[str] = ()) -> Callable[[str], tuple[str, ...]]:
    """Type of an option that takes names separated by commas: `mask,overlay`.

    Args:
        known: the allowed names; empty allows all.
    """
    allowed = tuple(dict.fromkeys(known))

    def names(text: str) -> tuple[str, ...]:
        parts = tuple(part.strip() for part in text.split(","))
        if not all(parts):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of names; separate them by commas: a,b,c")
        for name in parts if allowed else ():
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{name!r} is unknown; {nearest(name, allowed)}")
        return parts

    return names


def comma_numbers(text: str) -> tuple[float, ...]:
    """Type of an option that takes numbers separated by commas."""
    try:
        return tuple(float(part) for part in comma_list()(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} are not numbers; separate them by commas: 0.485,0.456,0.406"
        ) from None


def image_size(text: str) -> tuple[int, int]:
    """Type of an option that takes `HEIGHTxWIDTH`, or one number for a square."""
    parts = text.split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write height x width in pixels: 512x1024")
    return int(parts[0]), int(parts[-1])


def tile_side(text: str) -> "TilePx":
    """Type of `--tile`: a number of pixels, or a word, which the tile planner checks."""
    return int(text) if text.isdecimal() else cast("TilePx", text)


# Settings of `Config` with an option of their own.


def values_of(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The values of options, for a function whose parameters have these names."""
    return {name: getattr(arguments, name) for name in names}


RATES = "by optimizer: muon 3e-3 (auto, pretrained: 6e-3), adamw 1e-3, sgd 2e-2"

SETTING_OPTIONS = {
    "encoder": ("model.encoder", "encoder family (resnet, efficientnet) or full timm name", "resnet"),
    "encoder-depth": ("model.encoder_depth", "18, 34, 50, 101, 152 for resnet; 0 to 7 for efficientnet", "34 and 0"),
    "encoder-weights": ("model.encoder_weights", "initial ones: imagenet, none, a timm tag, or a file", "imagenet"),
    "weights": ("model.weights", "weights of the whole network: random, or a bundle", "random"),
    "dropout": ("model.dropout", "spatial dropout rate, from 0 to below 1", "0.2"),
    "epochs": ("train.epochs", "passes over the training images", "50"),
    "batch-size": ("train.batch_size", "crops in a batch on each process", "4"),
    "crop": ("data.crop", "crop in pixels: 320, or 256x512 for height x width", "320"),
    "lr": ("optim.lr", "peak learning rate", RATES),
    "seed": ("train.seed", "seed of everything random", "0"),
    "device": ("train.device", "auto, cpu, cuda, cuda:N or mps", "auto"),
    "precision": ("train.precision", "auto, fp32, bf16, fp16 or fp64", "auto"),
    "workers": ("data.workers", "processes that load images", "1 to train on a CPU, up to 8 for a GPU"),
}
"""Setting, help, and default as text of the options for frequent settings; all are reachable as `section.key=value`."""


def add_setting_options(parser: argparse.ArgumentParser, options: Mapping[str, tuple[str, str, str]]) -> None:
    """`--config`, options for settings, and the positional `section.key=value`."""
    text = "any setting; pyramidseg config lists them"
    parser.add_argument("settings", nargs="*", default=[], metavar="section.key=value", help=text)
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings (default: none); see pyramidseg config")
    for name, (setting, text, default) in options.items():
        metavar = name.rpartition("-")[2].upper()
        parser.add_argument(f"--{name}", dest=setting, metavar=metavar, help=f"{text} (default: {default})")
    parser.set_defaults(collect="settings")


def config_of(arguments: argparse.Namespace) -> "Config":
    """The settings of the file --config, of options and of `section.key=value`; the last one given counts."""
    from pyramidseg.base.overrides import load_config, parse_override

    by_option = {name: value for name, value in vars(arguments).items() if "." in name and value is not None}
    return load_config(arguments.config, by_option | dict(map(parse_override, arguments.settings)))


# Groups of options.


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that train one run."""
    parser.add_argument("--resume", action="store_true", help="continue the run in RUN from its last checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="delete the run in RUN and start again")


def add_study_arguments(parser: argparse.ArgumentParser, seeds: str, *, own: Sequence[str] = ()) -> None:
    """Dataset, folder, number and budget of the runs of a study, and settings except those that are its `own`."""
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a folder in a known layout, or a YAML file")
    add("--out", required=True, metavar="DIR", help="folder of the study; an interrupted one is continued")
    add("--seeds", type=int, default=1, metavar="N", help=seeds)
    budget = "budget of each run in"
    add("--epochs", type=int, metavar="N", help=f"{budget} epochs (no default: give this or --minutes)")
    add("--minutes", type=float, metavar="M", help=f"{budget} minutes of training on this machine (no default)")
    own = (*own, "epochs", "seed")
    add_setting_options(parser, {name: option for name, option in SETTING_OPTIONS.items() if name not in own})


def add_reading_settings(parser: argparse.ArgumentParser) -> None:
    """The positional settings of the commands that read a dataset without training."""
    text = "how the data is read: data.ignore=255"
    parser.add_argument("settings", nargs="*", default=[], metavar="data.key=value", help=text)
    parser.set_defaults(collect="settings")


def add_as_written(parser: argparse.ArgumentParser) -> None:
    """The option that switches the composed decoder off."""
    text = "compute every layer of the decoder, instead of fewer operations with equal results"
    parser.add_argument("--as-written", action="store_true", help=text)


def add_prediction_options(parser: argparse.ArgumentParser, *, batch_size: bool = True) -> None:
    """Options of the commands that predict."""
    add = parser.add_argument
    add("--backend", default="auto", help="auto, torch, torch-compiled, torch-exported, onnxruntime or openvino")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--precision", default="auto", help="auto (fp32, or that of the file), fp32, bf16 or int8")
    if batch_size:
        text = "images of equal size that are predicted at once"
        parser.add_argument("--batch-size", type=int, default=4, metavar="N", help=text)
    add_as_written(parser)
    add("--tta", action="store_true", help="test-time augmentation: average over flips and scales")
    text = "tile side for large images: pixels, auto or whole"
    add("--tile", dest="tile_px", type=tile_side, default="auto", metavar="PX", help=text)
    text = "overlap of tiles in pixels (default: by tile side)"
    add("--overlap", dest="overlap_px", type=int, metavar="PX", help=text)


def predictor_of(model: str, arguments: argparse.Namespace) -> "Predictor":
    """The predictor of a model with the options of `add_prediction_options`."""
    from pyramidseg.predict.predictor import Predictor

    how = ("backend", "device", "precision", "as_written", "tta", "tile_px", "overlap_px")
    return Predictor(model, **values_of(arguments, *how))
