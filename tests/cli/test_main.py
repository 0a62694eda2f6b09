"""What every command goes through before it runs."""

import argparse
import subprocess
import sys

import pytest

from pyramidseg.cli.main import COMMANDS, WITHOUT_TORCH, main


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_that_compute_use_the_available_processors(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    calls: list[str] = []
    monkeypatch.setattr(
        "pyramidseg.cli.main.parse", lambda arguments: argparse.Namespace(command=command, verbose=False, quiet=True)
    )
    monkeypatch.setattr(
        "pyramidseg.predict.pipeline.use_available_processors", lambda: calls.append("threads are bounded")
    )
    monkeypatch.setattr(COMMANDS[command], "run", lambda arguments: calls.append("run") or 0)
    assert main([command]) == 0
    assert calls == (["run"] if command in WITHOUT_TORCH else ["threads are bounded", "run"])


def test_inspect_and_convert_start_without_torch():
    modules = "inspection.inspect_dataset, pyramidseg.inspection.inspection_report, pyramidseg.formats.convert_dataset"
    program = f"import sys, pyramidseg.{modules}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
