"""Settings as text: what is read as YAML, and what is left as it is."""

import pytest

from pyramidseg.config import load_config
from pyramidseg.errors import ConfigError


@pytest.mark.parametrize("text", ["run #2/best.safetensors", "a: b.safetensors", "2024-01-01", "yes", "[foo", "*foo"])
def test_text_settings_are_taken_as_they_are_written(text: str) -> None:
    assert load_config(overrides={"model.weights": text}).model.weights == text
    assert load_config(overrides={"data.group": "^(a)#"}).data.group == "^(a)#"


def test_text_settings_may_be_quoted_and_absent() -> None:
    assert load_config(overrides={"model.weights": "'quoted.safetensors'"}).model.weights == "quoted.safetensors"
    assert load_config(overrides={"data.format": "null"}).data.format is None


def test_other_settings_are_yaml() -> None:
    config = load_config(
        overrides={"data.scale": "[0.5, 2]", "optim.lr": "null", "train.epochs": "3", "model.smoothing": "false"}
    )
    assert (config.data.scale, config.optim.lr, config.train.epochs) == ((0.5, 2), None, 3)
    assert config.model.smoothing is False


@pytest.mark.parametrize("name", ["data.scale", "optim.lr", "nothing.at_all"])
def test_text_that_is_no_yaml_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}=\[1,: not readable as YAML"):
        load_config(overrides={name: "[1,"})


def test_an_unknown_setting_of_a_known_section_lists_that_section() -> None:
    with pytest.raises(ConfigError, match=r"optim\.stepsize.*known: optim\.\S+, optim") as refused:
        load_config(overrides={"optim.stepsize": "1"})
    assert "model." not in str(refused.value)
