"""A budget in minutes is one of training and validation, whatever a run costs besides."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.overrides import load_config, parse_override
from pyramidseg.cli.main import main
from pyramidseg.studies import compare_encoders as budget
from pyramidseg.studies.compare_encoders import affordable_epochs, epoch_seconds
from pyramidseg.training.interrupt import Interrupted
from pyramidseg.training.loop import fit
from support import TINY


@pytest.mark.parametrize(("minutes", "seconds", "epochs"), [(1, 20, 3), (1, 21, 2), (0.5, 30, 1), (60, 0.5, 7200)])
def test_as_many_epochs_as_fit(minutes: float, seconds: float, epochs: int) -> None:
    assert affordable_epochs("resnet18", minutes=minutes, seconds=seconds) == epochs


def test_less_than_one_epoch_is_an_error_that_says_what_one_takes() -> None:
    with pytest.raises(
        ConfigError, match=r"--minutes 1: an epoch of resnet18 takes 1\.5 minutes here; choose a larger"
    ):
        affordable_epochs("resnet18", minutes=1, seconds=90)


def test_training_and_validation_count_and_nothing_else(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def noted(*arguments: Any, **more: Any) -> Any:
        runs.append(fit(*arguments, **more))
        return runs[0]

    clock = iter([100.0, 107.0])  # before and after validation
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(budget, "fit", noted)
    config = load_config(overrides={**dict(parse_override(text) for text in TINY), "train.epochs": 1})
    seconds = epoch_seconds(config, str(scenes), out=tmp_path / ".trial")
    assert seconds == runs[0].history[0]["seconds"] + 7
    assert not list(tmp_path.iterdir())


def test_an_interrupted_trial_names_no_flag_of_training(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any, out: Path, **more: Any) -> None:
        out.mkdir()
        raise Interrupted("interrupted; everything up to epoch 1, step 1 is saved: --resume continues")

    monkeypatch.setattr(budget, "fit", interrupted)
    words = ["compare", str(scenes), "--encoders", "test_resnet,test_efficientnet", "--minutes", "1", *TINY[1:]]
    assert main([*words, "--out", str(tmp_path / "out")]) == 130
    said = "interrupted in a trial epoch, which is not kept; the same command starts again\n"
    assert capsys.readouterr().err == said
    assert not list(tmp_path.iterdir())
