"""What every command's options have in common: defaults in the help, one name and one way to write lists."""

import argparse
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pyramidseg.backends import BACKENDS
from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.overrides import SETTINGS, given_settings, load_config
from pyramidseg.cli import benchmark, predict, pretrain
from pyramidseg.cli.flags import LABEL_FORMATS, SETTING_OPTIONS
from pyramidseg.cli.main import COMMANDS, build_parser, main, parse
from pyramidseg.formats.writers import LABEL_WRITERS
from pyramidseg.predict.outputs.output_writers import WRITERS


def options_of(command: str) -> dict[str, argparse.Action]:
    """The options of a command that take a value."""
    actions = build_parser()[1][command]._actions
    return {action.option_strings[-1]: action for action in actions if action.option_strings and action.nargs != 0}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_shows_the_default_of_every_option(command: str) -> None:
    formatter = build_parser()[1][command]._get_formatter()
    for option, action in options_of(command).items():
        entry = formatter._expand_help(action)
        if entry == argparse.SUPPRESS:  # an option of `train` that `ray-train` refuses
            continue
        assert action.required or "default" in entry, f"{option}: {entry}"
        if isinstance(action.default, (int, float)) or (isinstance(action.default, str) and action.default):
            assert f"default: {action.default}" in entry, option


@pytest.mark.parametrize("options", [SETTING_OPTIONS, pretrain.OPTIONS], ids=["train", "pretrain"])
def test_the_defaults_of_settings_are_those_of_the_configuration(options: dict[str, tuple[str, str, str]]) -> None:
    defaults = yaml.safe_load(Config().to_yaml())
    for name, (setting, _, text) in options.items():
        section, _, key = setting.partition(".")
        default = defaults[section][key]
        if options is pretrain.OPTIONS and name in ("encoder-weights", "dropout"):
            continue  # a classifier has its own
        if default is not None:
            assert text == (str(default[0]) if isinstance(default, list) else str(default)), name


def test_lists_of_names_are_those_that_the_library_takes() -> None:
    assert set(predict.OUTPUTS) == set(WRITERS)
    assert set(LABEL_FORMATS) == set(LABEL_WRITERS)
    assert set(benchmark.BACKENDS) == set(BACKENDS)


def test_options_are_called_the_same_in_every_command() -> None:
    for command in ("train", "pretrain", "compare", "predict", "evaluate"):
        assert {"--precision", "--device", "--batch-size"} <= set(options_of(command)), command
    assert {"--precision", "--device"} <= set(options_of("export"))
    assert {"--device", "--batch-size"} <= set(options_of("benchmark")) & set(options_of("export"))
    for command in ("train", "pretrain", "compare", "curve"):
        assert "--config" in options_of(command), command
    assert parse(["train", "x", "--precision", "bf16"]).__dict__["train.precision"] == "bf16"


def test_lists_are_separated_by_commas() -> None:
    parsed = parse(["import", "x", "--from", "smp", "--out", "y", "--classes", "a, b", "--mean", "0.5,0.25"])
    assert parsed.classes == ("a", "b")
    assert parsed.mean == (0.5, 0.25)
    assert parse(["predict", "m", "x", "--out", "o", "--save", "overlay,color"]).save == ("overlay", "color")
    assert parse(["compare", "d", "--out", "o", "--encoders", "resnet18,resnet34"]).encoders == ("resnet18", "resnet34")
    assert parse(["serve", "m", "--allow-url", "https://a/b, https://c"]).allow_url == ("https://a/b", "https://c")


def test_an_unknown_output_is_refused_before_the_model_is_opened(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "absent.safetensors", "x", "--out", "o", "--save", "overlays"]) == 2
    assert "did you mean 'overlay'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(COMMANDS))
@pytest.mark.parametrize(("flag", "level"), [("-v", logging.DEBUG), ("", logging.INFO), ("-q", logging.WARNING)])
def test_messages_are_shown_from_the_chosen_level_on(
    monkeypatch: pytest.MonkeyPatch, command: str, flag: str, level: int
) -> None:
    shown: list[tuple[int, bool]] = []
    needed = {"train": ["x", "--dry-run"]}.get(command, [])
    monkeypatch.setattr(
        "pyramidseg.base.log.configure_logging", lambda level, *, progress, serving: shown.append((level, progress))
    )
    monkeypatch.setattr("pyramidseg.predict.pipeline.use_available_processors", lambda: None)
    monkeypatch.setattr(COMMANDS[command], "run", lambda arguments: 0)
    monkeypatch.setattr(COMMANDS[command], "add_arguments", lambda parser: parser.add_argument("rest", nargs="*"))
    assert main([command, *needed[:1], *([flag] if flag else [])]) == 0
    assert shown == [(level, flag != "-q")]


@pytest.mark.parametrize("option", ["-v", "--quiet", "--out=x"])
def test_an_option_before_the_command_is_sent_behind_it(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main([option, "config"]) == 2
    assert f"{option}: write options after the command: pyramidseg COMMAND {option}" in capsys.readouterr().err


def test_verbose_and_quiet_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "-v", "-q"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_config_prints_every_setting_with_its_meaning(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["config"]) == 0
    text = capsys.readouterr().out
    file = tmp_path / "settings.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_config(file) == Config()
    assert not given_settings(load_config(file)), "only settings that were edited may count as given"
    assert load_config(file, {"data.crop": "64"}).data.crop == (64, 64)
    file.write_text(text.replace("# epochs: 50", "epochs: 7"), encoding="utf-8")
    assert given_settings(load_config(file)) == {"train.epochs": 7}
    lines = text.splitlines()
    for name in SETTINGS:
        (place,) = [index for index, line in enumerate(lines) if line.startswith(f"  # {name.partition('.')[2]}: ")]
        comment = lines[place - 1]
        assert comment.startswith("  # "), name
        assert comment.endswith("."), name
        assert len(comment) <= 120, name


def test_the_configuration_with_comments_round_trips_other_values() -> None:
    config = load_config(
        overrides={"data.classes": "[a b, 'c: d']", "data.ignore": "[255, '#ff0000']", "optim.lr": "1e-4"}
    )
    active = re.sub(r"^  # (\w+: .*[^.])$", r"  \1", config.to_commented_yaml(), flags=re.M)
    assert Config.model_validate(yaml.safe_load(active)) == config


@pytest.mark.skipif(os.name != "posix", reason="a pipe whose reader has gone is reported otherwise")
def test_a_reader_that_has_gone_ends_a_command_silently() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "pyramidseg", "config"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_unknown_options_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"train: unrecognized option --epoch; did you mean --epochs\?"):
        parse(["train", "x", "--epoch", "3"])
    with pytest.raises(ConfigError, match=r"did you mean --device or --dropout or --dry-run\?"):
        parse(["train", "x", "--data", "y"])
    with pytest.raises(ConfigError, match="known: --as-written, --backend, --batch-size"):
        parse(["evaluate", "x", "y", "--zzz"])
