"""config: print every setting with its default and meaning, as YAML for --config."""

import argparse

from pyramidseg.base.text import show

HEADER = """\
# All settings of pyramidseg with their defaults. Save this, remove the "# " in front of the settings to change, edit
# them, and pass the file to --config. The others keep their default, or take the value that the dataset or the bundle
# of --weights calls for.

"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(arguments: argparse.Namespace) -> int:
    from pyramidseg.base.config import Config

    show(HEADER + Config().to_commented_yaml(), end="")
    return 0
