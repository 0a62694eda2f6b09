"""The command line: find the command, parse its options, run it, and report errors.

Nothing here imports torch, timm or pydantic, so that `--help` answers at once. The module of a command imports what it
needs when it runs.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from pyramidseg.base.errors import ConfigError, PyramidSegError, nearest
from pyramidseg.base.exhaustion import explain_exhaustion
from pyramidseg.base.files import explain_write_failure
from pyramidseg.base.machine import keep_freed_memory
from pyramidseg.base.text import show
from pyramidseg.base.version import __version__
from pyramidseg.cli.flags import Parser, in_options

_MODULES = {"ray-train": "train_on_ray", "import": "import_", "config": "show_config"}
"""Modules that are not named as their command."""

COMMANDS = {
    name: import_module(f"pyramidseg.cli.{_MODULES.get(name, name)}")
    for name in (
        *("demo", "inspect", "convert", "train", "ray-train", "pretrain", "evaluate", "predict", "predictions"),
        *("export", "import", "compare", "curve", "serve", "publish", "benchmark", "describe", "config"),
    )
}
"""Module by command; each has `add_arguments(parser)`, `run(arguments) -> exit status`, and its help as docstring."""

WITHOUT_TORCH = ("inspect", "convert", "config", "serve")
"""Commands that do not need torch, or import it themselves."""

JOINING = ("train", "inspect", "evaluate", "convert")
"""Commands that take several datasets as one."""

JOINING_BY_FILE = ("compare", "curve", "ray-train")
"""Those that need a file for that."""

INTERRUPTED = 130

BROKEN_PIPE = 141
"""As other programs that were ended by SIGPIPE: 128 + 13."""


def run() -> NoReturn:
    """Entry point of the `pyramidseg` command."""
    keep_freed_memory()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Returns:
        The exit status: 0 done, 2 wrong input, 3 done with findings, 130 interrupted, 141 if the reader of the output
        has gone, as in `pyramidseg describe resnet | head -1`.
    """
    try:
        return _run_command(arguments)
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # else Python's flush at exit would fail, too
            os.dup2(nowhere, stream.fileno())
        return BROKEN_PIPE


def _run_command(arguments: Sequence[str]) -> int:
    try:
        try:
            parsed = parse(arguments)
            from pyramidseg.base.log import configure_logging  # imports Rich

            level = logging.DEBUG if parsed.verbose else logging.WARNING if parsed.quiet else logging.INFO
            configure_logging(level, progress=not parsed.quiet, serving=parsed.command == "serve")
            for handler in logging.getLogger("pyramidseg").handlers:
                handler.setFormatter(_Formatter(parsed.command))
            if parsed.command not in WITHOUT_TORCH:
                from pyramidseg.predict.pipeline import use_available_processors

                use_available_processors()
            status: int = COMMANDS[parsed.command].run(parsed)
        finally:
            for stream in (sys.stdout, sys.stderr):  # a failure at Python's own exit could not be caught
                if stream is not None:  # closed by the parent process
                    stream.flush()
    except PyramidSegError as error:
        text = str(error).removesuffix(error.suggestion)
        return _report(text, error.exit_status, arguments, suggestion=error.suggestion)
    except KeyboardInterrupt as error:
        return _report(str(error) or "interrupted", INTERRUPTED, arguments)
    except Exception as error:
        line = explain_write_failure(error) or explain_exhaustion(error)
        if line is None:
            raise
        return _report(line, PyramidSegError.exit_status, arguments)
    return status


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of one command.

    Raises:
        ConfigError: a command, option or value that does not exist; the nearest one is named.
    """
    parser, commands = build_parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise ConfigError(f"unknown command {arguments[0]!r}; {nearest(arguments[0], COMMANDS)}")
    if arguments and arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version"):
        raise ConfigError(f"{arguments[0]}: write options after the command: pyramidseg COMMAND {arguments[0]}")
    parsed, rest = parser.parse_known_args(arguments)
    command = commands[parsed.command]
    for word in rest:
        if word.startswith("-") and word != "-":
            raise command.unrecognized(word.partition("=")[0])
    # argparse leaves over the positional arguments that follow an option if the list has some already.
    target = command.get_default("collect")
    if rest and target is None:
        raise ConfigError(f"{command.prog}: unexpected argument {rest[0]!r}; {command.prog} --help lists all options")
    if rest:
        setattr(parsed, target, [*getattr(parsed, target), *rest])
    # Further datasets are among the settings.
    if target == "settings" and parsed.command in (*JOINING, *JOINING_BY_FILE):
        further = [word for word in parsed.settings if "=" not in word and ("/" in word or Path(word).exists())]
        if further and parsed.command in JOINING_BY_FILE:
            raise _several(parsed.command, [parsed.dataset, *further])
        parsed.settings = [word for word in parsed.settings if word not in further]
        parsed.dataset = [parsed.dataset, *further] if further else parsed.dataset
    return parsed


def _several(command: str, datasets: Sequence[str]) -> PyramidSegError:
    from pyramidseg.formats.joined import PROPOSED
    from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousDatasetError

    detail = (
        f"{command} takes one dataset, which joins several if it is a YAML file with sources (give {PROPOSED} then)"
    )
    joined = Alternative("several datasets as one", {"sources": [*datasets]})
    return AmbiguousDatasetError(Path(datasets[1]), detail, [joined], file=PROPOSED)


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the command line, and the parsers of its commands."""
    parser = Parser(prog="pyramidseg", description="Semantic segmentation with Feature Pyramid Networks.")
    parser.add_argument("--version", action="version", version=f"pyramidseg {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    commands = {}
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").partition(": ")[2].rstrip(".")
        command = subparsers.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        verbosity = command.add_mutually_exclusive_group()
        verbosity.add_argument("-v", "--verbose", action="store_true", help="also show debug messages")
        verbosity.add_argument("-q", "--quiet", action="store_true", help="show only results, warnings and errors")
        commands[name] = command
    return parser, commands


def option_names(command: str = "") -> dict[str, str]:
    """The option that sets an argument of the Python functions, by its name: of this command, or else of another."""
    commands = build_parser()[1]
    parsers = (*commands.values(), *filter(None, [commands.get(command)]))
    actions = (action for parser in parsers for action in parser._actions if action.option_strings)
    return {action.dest.rpartition(".")[2]: action.option_strings[-1] for action in actions}


class _Formatter(logging.Formatter):
    """Writes log messages `in_options` of a command."""

    def __init__(self, command: str) -> None:
        super().__init__()
        self._flags = option_names(command)

    def format(self, record: logging.LogRecord) -> str:
        return in_options(super().format(record), self._flags)


def _report(message: str, status: int, arguments: Sequence[str], *, suggestion: str = "") -> int:
    line = in_options(" ".join(message.split()), option_names(*arguments[:1]))
    line = f"error: {line}" if status != INTERRUPTED else line
    show(f"{line}\n{suggestion}" if suggestion else line, file=sys.stderr)
    return status
