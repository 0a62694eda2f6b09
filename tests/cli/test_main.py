"""What every command goes through before it runs."""

import argparse

import pytest

from pyramidseg.cli.main import COMMANDS, main


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
    assert calls == (["run"] if command in ("inspect", "config") else ["threads are bounded", "run"])
