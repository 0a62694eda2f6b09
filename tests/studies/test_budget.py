"""A budget in minutes is one of training, whatever a run costs besides."""

import pytest

from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError
from pyramidseg.studies import compare_encoders as budget
from pyramidseg.studies.compare_encoders import affordable_epochs


def affordable(monkeypatch: pytest.MonkeyPatch, *, minutes: float, seconds: float) -> int:
    """The epochs that fit if one takes these seconds."""

    def prepare(config: Config, dataset: str) -> Config:
        assert (config.model.encoder, config.train.epochs, config.optim.lr) == ("resnet18", 1, 0.5)
        return config

    monkeypatch.setattr(budget, "prepare_segmentation", prepare)
    monkeypatch.setattr(budget, "time_steps", lambda task, progress: (seconds, task))
    return affordable_epochs({"model.encoder": "resnet18", "optim.lr": 0.5}, minutes, "data")


@pytest.mark.parametrize(("minutes", "seconds", "epochs"), [(1, 20, 3), (1, 21, 2), (0.5, 30, 1), (60, 0.5, 7200)])
def test_as_many_epochs_as_fit(monkeypatch: pytest.MonkeyPatch, minutes: float, seconds: float, epochs: int) -> None:
    assert affordable(monkeypatch, minutes=minutes, seconds=seconds) == epochs


def test_less_than_one_epoch_is_an_error_that_says_what_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"`minutes=1`: an epoch of resnet18 takes 1\.5 minutes here; choose a larger"
    ):
        affordable(monkeypatch, minutes=1, seconds=90)


def test_the_encoder_is_left_to_the_weights_and_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Config] = []
    monkeypatch.setattr(budget, "prepare_segmentation", lambda config, dataset: prepared.append(config))
    monkeypatch.setattr(budget, "time_steps", lambda task, progress: (90, task))
    with pytest.raises(ConfigError, match=r"^curve: `minutes=1`: an epoch of the network takes 1\.5 minutes"):
        affordable_epochs({"model.weights": "last.safetensors"}, 1, "data", command="curve")
    assert prepared[0].model.model_fields_set == {"weights"}
