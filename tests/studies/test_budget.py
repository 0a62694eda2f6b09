"""A budget in minutes is one of training, whatever a run costs besides."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyramidseg.base.errors import ConfigError
from pyramidseg.cli.main import main
from pyramidseg.studies import compare_encoders as budget
from pyramidseg.studies.compare_encoders import affordable_epochs
from pyramidseg.training.interrupt import Interrupted
from support import TINY


def affordable(folder: Path, monkeypatch: pytest.MonkeyPatch, *, minutes: float, seconds: float) -> int:
    """The epochs that fit if one takes these seconds; its run leaves nothing behind."""

    def trial(config: Any, dataset: str, *, out: Path, **more: bool) -> Any:
        assert (config.model.encoder, config.train.epochs, config.optim.lr) == ("resnet18", 1, 0.5)
        out.mkdir()
        return SimpleNamespace(history=({"seconds": seconds},))

    monkeypatch.setattr(budget, "train_segmentation", trial)
    trial_folder = folder / ".trial"
    epochs = affordable_epochs("resnet18", minutes, "data", settings={"optim.lr": 0.5}, trial_folder=trial_folder)
    assert not list(folder.iterdir())
    return epochs


@pytest.mark.parametrize(("minutes", "seconds", "epochs"), [(1, 20, 3), (1, 21, 2), (0.5, 30, 1), (60, 0.5, 7200)])
def test_as_many_epochs_as_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, seconds: float, epochs: int
) -> None:
    assert affordable(tmp_path, monkeypatch, minutes=minutes, seconds=seconds) == epochs


def test_less_than_one_epoch_is_an_error_that_says_what_one_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ConfigError, match=r"--minutes 1: an epoch of resnet18 takes 1\.5 minutes here; choose a larger"
    ):
        affordable(tmp_path, monkeypatch, minutes=1, seconds=90)


def test_an_interrupted_trial_names_no_flag_of_training(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any, out: Path, **more: Any) -> None:
        out.mkdir()
        raise Interrupted("interrupted; everything up to epoch 1, step 1 is saved: --resume continues")

    monkeypatch.setattr(budget, "train_segmentation", interrupted)
    words = ["compare", str(scenes), "--encoders", "test_resnet,test_efficientnet", "--minutes", "1", *TINY[1:]]
    assert main([*words, "--out", str(tmp_path / "out")]) == 130
    said = "interrupted in a trial epoch, which is not kept; the same command starts again\n"
    assert capsys.readouterr().err == said
    assert not list(tmp_path.iterdir())
