"""What every command goes through before it runs."""

import argparse

import pytest

from pyramidseg.cli.main import COMMANDS, main


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_commands_that_compute_keep_to_the_processors_there_are(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    calls: list[str] = []
    monkeypatch.setattr("pyramidseg.cli.main.parse", lambda arguments: argparse.Namespace(command=command))
    monkeypatch.setattr(
        "pyramidseg.predict.pipeline.use_available_processors", lambda: calls.append("threads are bounded")
    )
    monkeypatch.setattr(COMMANDS[command], "run", lambda arguments: calls.append("run") or 0)
    assert main([command]) == 0
    assert calls == (["run"] if command == "inspect" else ["threads are bounded", "run"])
