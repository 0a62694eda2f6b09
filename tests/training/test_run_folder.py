"""RUN: what may be begun, continued or replaced, whatever a killed process left in it."""

from pathlib import Path

import pytest
import torch

from pyramidseg.base.config import Config
from pyramidseg.base.device import has_fast_bf16
from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.overrides import load_config, make_config
from pyramidseg.training.optim import choose_optimizer
from pyramidseg.training.run_folder import RunFolder, begin_run, device_of, open_run

PART = ".config.yaml.0123abcd.part"


def begun(out: Path, **overrides: object) -> Config:
    """A run's folder as it is before the first step; returns the settings in it."""
    config, _ = choose_optimizer(load_config(overrides={"model.encoder_weights": "none", **overrides}))
    begin_run(RunFolder(out), config, {"classes": ["a"]}, resume=False, overwrite=False)
    return config


@pytest.mark.parametrize("how", [{"resume": True}, {"overwrite": True}, {}], ids=str)
def test_a_folder_that_holds_only_what_a_killed_write_left_is_as_good_as_none(
    tmp_path: Path, how: dict[str, bool]
) -> None:
    (tmp_path / PART).touch()
    config = make_config({"train": {"precision": "fp32"}})
    run, resolved = open_run(tmp_path, config, **{"resume": False, "overwrite": False, **how})
    assert resolved == config
    begin_run(run, resolved, {}, **{"resume": False, "overwrite": False, **how})
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "dataset.yaml"}


def test_a_run_keeps_the_precision_that_it_began_with(tmp_path: Path) -> None:
    _, resolved = open_run(tmp_path, load_config(overrides={"train.device": "cpu"}), resume=False, overwrite=False)
    assert resolved.train.precision == ("bf16" if has_fast_bf16(torch.device("cpu")) else "fp32")
    begun(tmp_path, **{"train.device": "cpu", "train.precision": "fp64"})
    assert open_run(tmp_path, Config(), resume=True, overwrite=False)[1].train.precision == "fp64"
    with pytest.raises(ConfigError, match=r"train\.precision was 'fp64'"):
        open_run(tmp_path, load_config(overrides={"train.precision": "auto"}), resume=True, overwrite=False)


def test_processes_meet_on_the_device_of_the_run_that_they_resume(tmp_path: Path) -> None:
    begun(tmp_path, **{"train.device": "cpu"})
    assert device_of(tmp_path, Config(), resume=True) == "cpu"
    assert device_of(tmp_path, load_config(overrides={"train.device": "cuda:1"}), resume=True) == "cuda:1"
    assert device_of(tmp_path, Config(), resume=False) == "auto"


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", ".config.yaml.part", "config.yaml.0123abcd.part"])
def test_what_others_left_is_in_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(OutputError, match="is not a pyramidseg run"):
        open_run(tmp_path, Config(), resume=False, overwrite=True)


@pytest.mark.parametrize(
    "name", ["notes.txt", "images/a.jpg", "checkpoint/notes.txt", "plots/mine/a.png", "model.pth", "tensorboard/a.csv"]
)
def test_overwriting_never_deletes_what_a_run_does_not_write(tmp_path: Path, name: str) -> None:
    begun(tmp_path / "run")
    other = tmp_path / "run" / name
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("precious")
    with pytest.raises(OutputError, match=rf"contains {name}, which training does not write; move this elsewhere"):
        open_run(tmp_path / "run", Config(), resume=False, overwrite=True)
    assert other.read_text() == "precious"


@pytest.mark.parametrize("content", ["", "a: 1\n", "model: {}\ndata: {}\n", "[", "not yaml: [\n", "- model\n"])
def test_a_folder_with_somebody_elses_config_is_not_a_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(OutputError, match="is not a pyramidseg run"):
        open_run(tmp_path, Config(), resume=False, overwrite=True)
    assert (tmp_path / "config.yaml").read_text() == content


def test_everything_that_a_run_writes_may_be_overwritten(tmp_path: Path) -> None:
    begun(tmp_path)
    for name in (
        *("metrics.csv", "best.safetensors", "last.safetensors", "report.html", "plots/iou.png", PART),
        *("checkpoint/step-000000001.safetensors", "tensorboard/events.out.tfevents.1.host.2.0"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    run, config = open_run(tmp_path, Config(), resume=False, overwrite=True)
    begin_run(run, config, {}, resume=False, overwrite=True)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"config.yaml", "dataset.yaml"}


@pytest.mark.parametrize("place", ["data", "data/inner", ".", "weights.safetensors"])
def test_an_out_that_contains_an_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    begun(tmp_path)
    (tmp_path / "data" / "inner").mkdir(parents=True)
    (tmp_path / "weights.safetensors").touch()
    monkeypatch.chdir(tmp_path.parent)
    for out in (tmp_path, Path(tmp_path.name), tmp_path / "data" / ".."):
        with pytest.raises(OutputError, match=r"`out=.*`: contains .*, which this run reads"):
            open_run(out, Config(), resume=False, overwrite=True, inputs=[tmp_path / place])
    elsewhere = [tmp_path.parent / "other", "imagenet", "none", "a\0b", tmp_path.parent]
    with pytest.raises(OutputError, match=r"contains .*, which training does not write"):
        open_run(tmp_path, Config(), resume=False, overwrite=True, inputs=elsewhere)


def test_a_run_that_was_killed_while_it_was_overwritten_can_be_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path)
    for name in ("report.html", "best.safetensors"):
        (tmp_path / name).touch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", _killed)
        with pytest.raises(KeyboardInterrupt):
            begin_run(RunFolder(tmp_path), Config(), {}, resume=False, overwrite=True)
    run, config = open_run(tmp_path, load_config(overrides={"train.epochs": 7}), resume=False, overwrite=True)
    begin_run(run, config, {}, resume=False, overwrite=True)
    assert load_config(run.config).train.epochs == 7
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "dataset.yaml"}


def test_a_resumed_run_is_cleared_of_what_killed_writes_left(tmp_path: Path) -> None:
    config = begun(tmp_path)
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    left = [tmp_path / ".last.safetensors.0123abcd.part", run.checkpoints / ".step-000000004.safetensors.89ef0123.part"]
    kept = [tmp_path / "last.safetensors", run.checkpoints / "step-000000002.safetensors"]
    for path in (*left, *kept):
        path.touch()
    open_run(tmp_path, config, resume=True, overwrite=False)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_resumed_run_that_was_killed_before_its_data_were_described_describes_them(tmp_path: Path) -> None:
    config = begun(tmp_path)
    run = RunFolder(tmp_path)
    run.dataset.unlink()
    begin_run(run, config, {"classes": ["a"]}, resume=True, overwrite=False)
    assert "classes" in run.dataset.read_text()


@pytest.mark.parametrize(
    "given",
    [{"optim.optimizer": "auto"}, {"optim.lr": "null"}, {"optim.lr": "3e-3"}, {"optim.optimizer": "muon"}],
    ids=str,
)
def test_a_run_is_resumed_by_the_words_that_began_it(tmp_path: Path, given: dict[str, str]) -> None:
    saved = begun(tmp_path, **given)
    _, config = open_run(tmp_path, load_config(overrides=given), resume=True, overwrite=False)
    assert config == saved


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"optim.optimizer": "sgd"}, {"optim.optimizer": "auto"}, "optim.optimizer was 'sgd' .* is 'auto' now"),
        ({"optim.lr": 0.5}, {"optim.lr": "null"}, "optim.lr was 0.5 .* is None now"),
        ({}, {"train.epochs": 3}, "train.epochs was 50 .* is 3 now"),
    ],
)
def test_settings_that_come_to_something_else_are_refused(
    tmp_path: Path, before: dict[str, object], now: dict[str, object], message: str
) -> None:
    begun(tmp_path, **before)
    with pytest.raises(ConfigError, match=message):
        open_run(tmp_path, load_config(overrides=now), resume=True, overwrite=False)


def test_a_resumed_run_takes_another_device(tmp_path: Path) -> None:
    begun(tmp_path)
    _, config = open_run(tmp_path, load_config(overrides={"train.device": "cpu"}), resume=True, overwrite=False)
    assert config.train.device == "cpu"


def _killed(path: Path) -> None:
    raise KeyboardInterrupt
