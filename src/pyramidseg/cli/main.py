"""The command line: which command, its flags, and what an error becomes.

Nothing here imports torch, timm or pydantic: `--help` answers at once. Each command's module loads what it needs when
it runs.
"""

import argparse
import logging
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from pyramidseg.base.errors import ConfigError, PyramidSegError, nearest
from pyramidseg.base.files import explained, is_write_failure
from pyramidseg.base.version import __version__
from pyramidseg.cli import (
    benchmark,
    compare,
    demo,
    describe,
    evaluate,
    export,
    import_,
    inspect,
    predict,
    pretrain,
    train,
)

COMMANDS = {
    "demo": demo,
    "inspect": inspect,
    "train": train,
    "pretrain": pretrain,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "import": import_,
    "compare": compare,
    "benchmark": benchmark,
    "describe": describe,
}
"""Module by command; each has `HELP`, `add_arguments(parser)` and `run(arguments) -> exit status`."""

WITHOUT_TORCH = ("inspect",)
"""Commands that get by without it."""

INTERRUPTED = 130

UNREAD = 141
"""As a shell shows other programs whose reader went away: 128 and the number of SIGPIPE."""


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are our one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Argparse's own complaint as a ConfigError."""
        raise ConfigError(f"{message}; {self.prog} --help lists what there is")


def run() -> NoReturn:
    """Entry point of the `pyramidseg` command."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status (0 done, 2 wrong input, 3 done with findings, 130 interrupted).

    Where nobody reads on, as in `pyramidseg describe resnet | head -1`, it ends with 141 and not a word.
    """
    try:
        return _status_of(arguments)
    except BrokenPipeError:
        if not _discard_unread_output():
            raise
        return UNREAD


def _status_of(arguments: Sequence[str]) -> int:
    try:
        try:
            parsed = parse(arguments)
            _show_messages(verbose=parsed.verbose, quiet=parsed.quiet)
            if parsed.command not in WITHOUT_TORCH:
                _bound_threads()
            status: int = COMMANDS[parsed.command].run(parsed)
        finally:
            _flush_output()  # at the interpreter's end, a failure could not be caught
    except PyramidSegError as error:
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", INTERRUPTED)
    except OSError as error:
        if not is_write_failure(error):
            raise
        return _fail(explained(error), PyramidSegError.exit_status)
    return status


def _show_messages(*, verbose: bool, quiet: bool) -> None:
    from pyramidseg.base.log import configure_logging  # imports Rich

    configure_logging(logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO, progress=not quiet)


def _bound_threads() -> None:
    from pyramidseg.predict.pipeline import use_available_processors

    use_available_processors()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Arguments of one command.

    Raises:
        ConfigError: a command, flag or value that does not exist; the nearest is named.
    """
    parser = build_parser()
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise ConfigError(f"no command {arguments[0]!r}; {nearest(arguments[0], COMMANDS)}")
    parsed, rest = parser.parse_known_args(arguments)
    command = parser.commands[parsed.command]
    for word in rest:
        if word.startswith("-"):
            flag = word.partition("=")[0]
            raise ConfigError(f"{command.prog}: no flag {flag}; {nearest(flag, command.flags())}")
    # What stands between flags, argparse does not give to a list that it has filled already.
    target = command.get_default("collect")
    if rest and target is None:
        raise ConfigError(f"{command.prog}: unexpected {rest[0]!r}; {command.prog} --help lists what there is")
    if rest:
        setattr(parsed, target, [*getattr(parsed, target), *rest])
    return parsed


class CommandParser(Parser):
    """Parser of one command."""

    def flags(self) -> list[str]:
        """Every flag it knows."""
        return [option for action in self._actions for option in action.option_strings if option.startswith("--")]


class RootParser(Parser):
    """Parser of all commands."""

    commands: dict[str, CommandParser]


def build_parser() -> RootParser:
    """The whole command line."""
    parser = RootParser(
        prog="pyramidseg",
        description="Semantic segmentation with Feature Pyramid Networks.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pyramidseg {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    parser.commands = {}
    for name, module in COMMANDS.items():
        command = subparsers.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False)
        module.add_arguments(command)
        verbosity = command.add_mutually_exclusive_group()
        verbosity.add_argument("-v", "--verbose", action="store_true", help="also show debug messages")
        verbosity.add_argument("-q", "--quiet", action="store_true", help="show only results, warnings and errors")
        parser.commands[name] = command
    return parser


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by whoever started this process
            stream.flush()


def _discard_unread_output() -> bool:
    """Send to nowhere what is left for readers that went away; whether there are any.

    Another pipe may have broken: that of a process which loads images.
    """
    unread = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and _has_no_reader(stream.fileno())]
    for stream in unread:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    return bool(unread)


def _has_no_reader(descriptor: int) -> bool:
    watch = select.poll()
    watch.register(descriptor, 0)  # errors are told without being asked for
    return bool(watch.poll(0))


def _fail(message: str, status: int) -> int:
    line = " ".join(message.split())
    print(f"error: {line}" if status != INTERRUPTED else line, file=sys.stderr, flush=True)
    return status
