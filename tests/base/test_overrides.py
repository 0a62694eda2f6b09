"""Settings as text: what is read as YAML, and what is left as it is."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.overrides import OTHER_NAMES, SETTINGS, load_config


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


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("data.ignore", "255,11", (255, 11)),
        ("data.ignore", "void, '#ff0000'", ("void", "#ff0000")),
        ("data.ignore", "255", (255,)),
        ("data.bands", "4,1", (4, 1)),
        ("data.classes", "sky,road", ("sky", "road")),
        ("data.classes", "['a,b', c]", ("a,b", "c")),
        ("data.crop", "320,256", (320, 256)),
        ("loss.class_weights", "1,2.5", (1.0, 2.5)),
        ("loss.class_weights", "none", "none"),
    ],
)
def test_lists_are_written_with_commas(name: str, text: str, value: object) -> None:
    section, _, key = name.partition(".")
    assert getattr(getattr(load_config(overrides={name: text}), section), key) == value


def test_a_range_in_the_wrong_order_is_shown() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.scale: 2,0\.5 must be two factors, low before high, between 0\.05 and 20"
    ):
        load_config(overrides={"data.scale": "2,0.5"})


@pytest.mark.parametrize("name", ["data.scale", "optim.lr", "nothing.at_all"])
def test_text_that_is_no_yaml_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}=\[1,: not readable as YAML"):
        load_config(overrides={name: "[1,"})


@pytest.mark.parametrize("name", ["train.epochs", "data.crop", "data.ignore", "data.bands", "optim.lr", "train.seed"])
def test_true_is_no_number(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*: got true, a number is needed"):
        load_config(overrides={name: "true"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optim.warmup_epochs", "1e308"),
        ("optim.lr", "1e38"),
        ("loss.dice", "1e308"),
        ("loss.class_weights", "[1e308]"),
        ("data.crop", "200000"),
        ("data.workers", "99999999"),
        ("model.pyramid_channels", "2000000"),
    ],
)
def test_values_that_nothing_could_compute_with_are_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*less than or equal to"):
        load_config(overrides={name: value})


def test_an_empty_file_of_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"contains nothing; a mapping of sections is needed .model, data"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("epoch", "train.epochs"),
        ("optim.epoch", "train.epochs"),
        ("batch", "train.batch_size"),
        ("num_workers", "data.workers"),
        ("dropout_rate", "model.dropout"),
        ("optim.lrr", "optim.lr"),
        ("loss.dise", "loss.dice"),
        *((word, setting) for setting, names in OTHER_NAMES.items() for word in names.split()),
    ],
)
def test_an_unknown_setting_is_answered_with_the_one_that_was_meant(name: str, proposed: str) -> None:
    assert proposed in SETTINGS
    with pytest.raises(ConfigError, match=rf"{name}.*; did you mean '{proposed}'\?"):
        load_config(overrides={name: "1"})


def test_a_misspelt_section_is_answered_with_the_section() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'training'; did you mean 'train'\?"):
        load_config(overrides={"training.seed": "1"})


@pytest.mark.parametrize("name", ["size", "street2", "xyz.at_all"])
def test_a_name_like_no_setting_is_answered_with_the_command_that_lists_them(name: str) -> None:
    with pytest.raises(ConfigError, match=r"; pyramidseg config lists all settings$"):
        load_config(overrides={name: "1"})


def test_an_unknown_setting_of_a_known_section_lists_that_section() -> None:
    with pytest.raises(ConfigError, match=r"optim\.stepsize.*known: optim\.\S+, optim") as refused:
        load_config(overrides={"optim.stepsize": "1"})
    assert "model." not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("&a [1]", None),
        ("[*a]", "alias"),
        ("[" * 5_000, "nested too deeply"),
        ("2024-99-99", "month must be in 1..12"),
        ("9" * 6_000, "not readable as YAML"),
    ],
)
def test_values_and_files_have_the_guards_of_dataset_yaml(tmp_path: Path, value: str, reason: str | None) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"data:\n  scale: {value}\n")
    for settings in ({"file": file}, {"overrides": {"data.scale": value}}):
        with pytest.raises(ConfigError, match=reason) as refusal:
            load_config(**settings)
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 600


def test_an_alias_bomb_in_a_configuration_is_refused(tmp_path: Path) -> None:
    names = itertools.pairwise("abcdefgh")
    levels = "".join(f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in names)
    (tmp_path / "c.yaml").write_text(f"a: &a [1]\n{levels}")
    with pytest.raises(ConfigError, match=r"c\.yaml: contains an alias"):
        load_config(tmp_path / "c.yaml")


@pytest.mark.parametrize("text", ["352y480", "352x480x3", "large", "x", "-320"])
def test_a_crop_that_is_no_size_is_refused_with_what_it_may_be(text: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.crop"):
        load_config(overrides={"data.crop": text})


def test_the_forms_of_a_crop() -> None:
    crops = [load_config(overrides={"data.crop": text}).data.crop for text in ("320", "256x512", "256,512")]
    assert crops == [(320, 320), (256, 512), (256, 512)]
    with pytest.raises(ConfigError, match="'352y480' is not one side in pixels"):
        load_config(overrides={"data.crop": "352y480"})


@pytest.mark.parametrize("name", ["model.weights", "model.encoder_weights", "data.group", "data.unlabeled"])
def test_text_with_a_nul_character_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: contains a NUL character"):
        load_config(overrides={name: "a\0b"})


def test_integers_of_numpy_are_integers() -> None:
    config = load_config(overrides={"data.crop": np.int64(64), "data.ignore": np.int64(3), "train.epochs": np.int64(1)})
    assert (config.data.crop, config.data.ignore, config.train.epochs) == ((64, 64), (3,), 1)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(ConfigError, match=r"^settings: model\.weights=\[0, 1, .*\.\.\.: ") as raised:
        load_config(overrides={"model.weights": list(range(1000))})
    assert len(str(raised.value)) < 200
