"""Advice of `compare`: settings of the comparison, and folders that exist; without its trainings."""

import re
from pathlib import Path

import pytest
import yaml

from followed import Terminal
from pyramidseg.studies import compare_encoders
from support import TINY

SCENES = Path(__file__).parents[1] / "compatibility" / "files" / "scenes"
SETTINGS = (*TINY[1:], "train.device=cpu", "--encoders", "test_resnet,test_efficientnet")


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Commands that end where the runs of a comparison would begin; an epoch takes 90 seconds."""
    for name in ("run_study", "collect"):
        monkeypatch.setattr(compare_encoders, name, lambda *arguments: None)
    monkeypatch.setattr(compare_encoders, "write_report", lambda *arguments: ("planned",))
    monkeypatch.setattr(compare_encoders, "time_steps", lambda *arguments: (90.0,))
    return Terminal(capsys)


def plan(out: Path) -> dict[str, object]:
    """What would be trained."""
    content: dict[str, object] = yaml.safe_load((out / "comparison.yaml").read_text())
    return content


def epochs(out: Path) -> list[int]:
    return [*plan(out)["epochs"].values()]


@pytest.mark.parametrize("given", [(), ("--epochs", "2", "--minutes", "4")])
def test_one_budget_of_the_two_is_given(terminal: Terminal, tmp_path: Path, given: tuple[str, ...]) -> None:
    words = ("compare", SCENES, *SETTINGS)
    text = terminal(*words, *given, "--out", tmp_path / "x", status=2)
    by_number, by_time = re.search(r"either (--epochs) or (--minutes)", text).groups()
    terminal(*words, by_number, "2", "--out", tmp_path / "a")
    terminal(*words, by_time, "4", "--out", tmp_path / "b")
    assert epochs(tmp_path / "a") == epochs(tmp_path / "b") == [2, 2]
    assert not (tmp_path / "x").exists()


def test_a_budget_of_less_than_an_epoch_is_raised(terminal: Terminal, tmp_path: Path) -> None:
    words = ("compare", SCENES, *SETTINGS, "--out", tmp_path / "a", "--minutes")
    text = terminal(*words, "1", status=2)
    minutes = re.search(r"an epoch of test_resnet takes ([\d.]+) minutes here; choose a larger budget", text)[1]
    terminal(*words, float(minutes) + 0.01)
    assert epochs(tmp_path / "a") == [1, 1]


@pytest.mark.parametrize("encoders", ["test_resnet", "test_resnet,test_resnet"])
def test_two_encoders_are_compared(terminal: Terminal, tmp_path: Path, encoders: str) -> None:
    words = ("compare", SCENES, *SETTINGS[:-1])
    text = terminal(*words, encoders, "--epochs", "1", "--out", tmp_path / "a", status=2)
    assert "at least two different ones are needed" in text
    terminal(*words, "test_resnet,test_efficientnet", "--epochs", "1", "--out", tmp_path / "a")
    assert plan(tmp_path / "a")["encoders"] == ["test_resnet", "test_efficientnet"]


def test_an_encoder_gets_the_nearest(terminal: Terminal, tmp_path: Path) -> None:
    words = ("compare", SCENES, *SETTINGS[:-1])
    text = terminal(*words, "test_resnt,test_efficientnet", "--epochs", "1", "--out", tmp_path / "a", status=2)
    nearest = re.search(r"did you mean '(\w+)'", text)[1]
    terminal(*words, f"{nearest},test_efficientnet", "--epochs", "1", "--out", tmp_path / "a")
    assert plan(tmp_path / "a")["encoders"] == ["test_resnet", "test_efficientnet"]


@pytest.mark.parametrize(
    "setting", ["model.encoder=resnet18", "model.encoder_depth=18", "train.epochs=9", "train.seed=5"]
)
def test_a_setting_of_the_comparison_itself_is_left_out(terminal: Terminal, tmp_path: Path, setting: str) -> None:
    words = ("compare", SCENES, *SETTINGS, "--epochs", "1", "--out", tmp_path / "a")
    text = terminal(*words, setting, status=2)
    assert f"{setting.partition('=')[0]} is set by the comparison itself; leave it out" in text
    terminal(*words)
    assert setting.partition("=")[0] not in plan(tmp_path / "a")["settings"]


@pytest.mark.parametrize("number", ["--seeds", "--epochs", "--minutes"])
def test_numbers_above_0(terminal: Terminal, tmp_path: Path, number: str) -> None:
    given = {"--seeds": "1", "--minutes" if number == "--minutes" else "--epochs": "2"}
    words = ("compare", SCENES, *SETTINGS, "--out", tmp_path / "a")
    text = terminal(*words, *(word for item in (given | {number: "0"}).items() for word in item), status=2)
    assert f"compare: {number} 0: must be above 0" in text
    terminal(*words, *(word for item in given.items() for word in item))
    assert plan(tmp_path / "a")["seeds"] == 1


@pytest.mark.parametrize("way", ["the same arguments", "more seeds", "another --out"])
@pytest.mark.parametrize("changed", [("--epochs", "2"), ("optim.lr=0.5", "--epochs", "1")])
def test_a_comparison_of_other_arguments(
    terminal: Terminal, tmp_path: Path, way: str, changed: tuple[str, ...]
) -> None:
    words = ("compare", SCENES, *SETTINGS, "--out")
    terminal(*words, tmp_path / "a", "--epochs", "1")
    text = terminal(*words, tmp_path / "a", *changed, status=2)
    assert way in text
    if way == "another --out":
        terminal(*words, tmp_path / "b", *changed)
        assert plan(tmp_path / "b") != plan(tmp_path / "a")
        return
    terminal(*words, tmp_path / "a", "--epochs", "1", *(("--seeds", "3") if way == "more seeds" else ()))
    assert plan(tmp_path / "a")["seeds"] == (3 if way == "more seeds" else 1)
    assert epochs(tmp_path / "a") == [1, 1]


@pytest.mark.parametrize(("name", "content"), [("own.txt", "mine"), ("comparison.yaml", "- not a comparison")])
def test_a_folder_of_something_else_is_kept_by_another_out(
    terminal: Terminal, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text(content)
    words = ("compare", SCENES, *SETTINGS, "--epochs", "1", "--out")
    assert "choose another --out" in terminal(*words, tmp_path / "a", status=2)
    terminal(*words, tmp_path / "b")
    assert epochs(tmp_path / "b") == [1, 1] and (tmp_path / "a" / name).read_text() == content
