"""Whole runs with `--auto`: measured for real, resumed after kills, and repeated without it from config.yaml."""

import signal
from pathlib import Path

import pytest
import torch
import yaml

import pyramidseg as ps
from forks import WITHOUT_FIGURES, PythonProcess
from pyramidseg.cli.main import main
from pyramidseg.model import encoder_weights
from pyramidseg.training.segmentation_task import SegmentationTask
from support import TINY, TINY_SETTINGS, assert_same_bits

GIVEN = (*TINY, "train.epochs=2", "train.device=cpu", "train.checkpoint_steps=1")


@pytest.fixture(scope="module")
def planned(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("planned") / "run"
    assert main(["train", str(scenes), "--auto", "--out", str(out), *GIVEN]) == 0
    return out


def test_config_yaml_holds_plain_settings_that_repeat_the_run(scenes: Path, planned: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((planned / "config.yaml").read_text())
    assert (config["train"]["batch_size"], config["data"]["crop"]) == (5, [64, 64])
    assert "settings planned automatically" in (planned / "report.html").read_text()
    run = ps.train(scenes, out=tmp_path / "again", config=planned / "config.yaml")
    assert_same_bits(run.folder, planned)


def test_killed_before_and_after_its_first_checkpoint_it_resumes_the_plan(
    scenes: Path, planned: Path, tmp_path: Path
) -> None:
    """A resumed run keeps its settings: other minutes change nothing."""
    out = tmp_path / "run"
    words = ["train", str(scenes), "--auto", "--minutes", "60", "--out", str(out), *GIVEN]
    for file in (out / "config.yaml", out / "checkpoint" / "step-000000003.safetensors"):
        with PythonProcess("-c", WITHOUT_FIGURES, *words, "--resume") as process:
            while not process.has_ended():
                if file.exists():
                    process.send(signal.SIGKILL)
                    break
            assert process.wait() == -signal.SIGKILL
    settings = (out / "config.yaml").read_text()
    assert main([*words, "--resume"]) == 0
    assert (out / "config.yaml").read_text() == settings == (planned / "config.yaml").read_text()
    assert_same_bits(out, planned)


def test_a_dry_run_plans_and_writes_nothing(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", str(scenes), "--auto", "--dry-run", "--out", str(tmp_path / "run"), *GIVEN]
    save, saved = SegmentationTask.save, []
    monkeypatch.setattr(
        SegmentationTask, "save", lambda self, model, path, facts: saved.append((path, save(self, model, path, facts)))
    )
    assert main(words) == 0
    ((path, _),) = saved
    assert not path.parent.exists(), "a bundle whose writing is timed"
    said = capsys.readouterr().out
    assert "train.batch_size=5: " in said and "train.epochs=2: given" in said and "expected end: " in said
    assert not list(tmp_path.iterdir())


def test_less_memory_than_planned_shows_in_the_trial(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normalize = ps.Segmenter.normalize

    def limited(model: ps.Segmenter, images: torch.Tensor) -> torch.Tensor:
        if model.training and len(images) > 3 and images.device.type != "meta":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return normalize(model, images)

    monkeypatch.setattr(ps.Segmenter, "normalize", limited)
    run = ps.train(scenes, out=tmp_path / "run", auto=True, epochs=1, workers=0, **TINY_SETTINGS)
    train = yaml.safe_load((run.folder / "config.yaml").read_text())["train"]
    assert (train["batch_size"], train["accumulate"]) == (3, 2)


def test_a_dry_run_downloads_nothing(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(encoder_weights, "fetch_weights", lambda name: pytest.fail(f"{name} is fetched"))
    words = [word for word in GIVEN if not word.startswith("model.encoder")]
    assert main(["train", str(scenes), "--auto", "--dry-run", "--encoder", "resnet18", *words]) == 0
    assert "encoder weights resnet18.tv_in1k" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--minutes", "5"], "--minutes 5: needs --auto, and a number above 0"),
        (["--auto", "--folds", "3"], "give it the settings that --auto --dry-run prints"),
    ],
)
def test_what_auto_cannot_do_is_refused(
    scenes: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(scenes), "--out", str(tmp_path / "run"), *words]) == 2
    assert said in capsys.readouterr().err
