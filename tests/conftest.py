"""Shared by all tests: made datasets, and the command line as people start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pyramidseg.demo.scenes import write_scenes
from support import CommandLine, process_environment

os.environ["PYRAMIDSEG_CACHE"] = "off"  # nothing remembered in or from the home of whoever runs the tests
torch.set_num_threads(1)  # the tests' networks are tiny: threads would only wait for each other


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made dataset of 20 training and 5 validation scenes; not to be changed."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), train=20, val=5, height=72, width=96).parent


@pytest.fixture
def pyramidseg() -> CommandLine:
    """Run `pyramidseg ...` in a process of its own; returns status, output and errors."""

    def run(*arguments: object, timeout: float = 240) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pyramidseg", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=process_environment(),
            check=False,
        )

    return run
