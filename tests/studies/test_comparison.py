"""A whole comparison of two tiny encoders, as the command makes it."""

import csv
import json
import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from forks import run_command
from pyramidseg.base.overrides import load_config
from pyramidseg.cli.main import main
from pyramidseg.studies import compare_encoders as study
from pyramidseg.studies import compare_results
from pyramidseg.studies.bootstrap import Difference
from pyramidseg.studies.compare_encoders import PLAN, open_study, run_folder, run_study
from pyramidseg.studies.compare_report import caveats, conclusions
from pyramidseg.studies.compare_results import EncoderCost, EncoderResult, pareto_front
from pyramidseg.training.interrupt import Interrupted
from support import TINY, drawn_figures, without_figures

ENCODERS = "test_resnet,test_efficientnet"
SETTINGS = [*TINY[1:], "train.device=cpu", "train.checkpoint_steps=1", "--encoders", ENCODERS]
SETTINGS += ["optim.optimizer=auto", "optim.lr=null"]  # values that training replaces


@pytest.fixture(scope="module")
def compared(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare") / "out"
    out.mkdir()
    (out / ".comparison.yaml.0123abcd.part").touch()  # of a first try that was killed at once
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "run", run_command)
        patch.setattr(study, "train_segmentation", train_without_figures)
        with drawn_figures():
            assert main(["compare", str(scenes), "--out", str(out), "--epochs", "1", *SETTINGS]) == 0
    return out


def train_without_figures(*arguments: Any, train: Any = study.train_segmentation, **options: Any) -> Any:
    """The figures of the comparison are drawn; those of its runs are not looked at."""
    with without_figures():
        return train(*arguments, **options)


def content(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    return found


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_all_documented_files_are_written(compared: Path) -> None:
    found = content(compared)
    assert [entry["name"] for entry in found["encoders"]] == ENCODERS.split(",")
    for entry in found["encoders"]:
        assert entry["error"] == pytest.approx(1 - entry["miou"])
        assert min(entry[name] for name in ("parameters", "gmac", "latency_ms", "memory_mb", "training_seconds")) > 0
    assert len(found["pairs"]) == 1
    assert all(entry["iou_by_class"].keys() >= {"road", "sky"} for entry in found["encoders"])
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert all(sentence in page for sentence in found["verdict"])
    assert f"<td>{'yes' if Difference(**difference_of(found)).is_significant else 'no'}" in page
    assert "http://" not in page
    assert "https://" not in page


def difference_of(found: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the `Difference` of the only pair."""
    (pair,) = found["pairs"]
    return {name: value for name, value in pair.items() if name != "is_significant"}


def test_scores_are_those_of_the_last_epoch(compared: Path) -> None:
    for entry in content(compared)["encoders"]:
        (row,) = rows(run_folder(compared, entry["name"], 0) / "metrics.csv")
        assert entry["miou"] == pytest.approx(float(row["val_miou"]), abs=2e-3)  # validated in training's precision
        assert entry["errors_by_epoch"] == [[pytest.approx(1 - float(row["val_miou"]), abs=1e-5)]]


def test_the_json_is_consistent(compared: Path) -> None:
    found = content(compared)
    fastest = min(found["encoders"], key=lambda entry: entry["latency_ms"])
    assert fastest["pareto"]
    assert all(entry["mious"] == [entry["miou"]] for entry in found["encoders"])
    (pair,) = found["pairs"]
    assert pair["low"] <= pair["mean"] <= pair["high"]
    better, worse = (entry["miou"] for entry in sorted(found["encoders"], key=lambda entry: -entry["miou"]))
    assert pair["mean"] == pytest.approx(better - worse)


@pytest.fixture
def no_memory_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the processes that measure memory, each of which starts torch; `compared` has measured it."""
    monkeypatch.setattr(compare_results, "peak_memory", lambda file, **options: 2**27)


@pytest.mark.usefixtures("no_memory_process")
def test_a_comparison_resumes_and_accepts_more_seeds(
    compared: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = shutil.copytree(compared, tmp_path / "copy")
    before = (run_folder(compared, "test_resnet", 0) / "last.safetensors").stat().st_mtime_ns
    again = ["compare", str(scenes), "--out", str(compared), "--epochs", "1", "--seeds", "2", *SETTINGS]
    assert main(again) == 0
    assert (run_folder(compared, "test_resnet", 0) / "last.safetensors").stat().st_mtime_ns == before
    assert "this run is finished; nothing to do" in capsys.readouterr().out
    assert [len(entry["mious"]) for entry in content(compared)["encoders"]] == [2, 2]


def stopped(compared: Path, out: Path) -> Path:
    """A comparison that was killed in the last step of its last run."""
    shutil.copytree(compared, out)
    for file in out.iterdir():
        if file.is_file() and file.name != PLAN:
            file.unlink()
    run = run_folder(out, "test_efficientnet", 0)
    for name in ("best.safetensors", "last.safetensors", "metrics.csv", "report.html"):
        (run / name).unlink()
    sorted((run / "checkpoint").iterdir())[-1].unlink()
    return run


def test_a_comparison_stopped_within_a_run_ends_as_one_left_alone(
    compared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyramidseg")
    out = tmp_path / "out"
    run = stopped(compared, out)
    stored = yaml.safe_load((out / PLAN).read_text(encoding="utf-8"))
    resumed = open_study(
        stored["dataset"],
        tuple(stored["encoders"]),
        out=out,
        seeds=1,
        epochs=1,
        minutes=None,
        config=load_config(None, stored["settings"]),
    )
    runs = run_study(resumed, out)
    assert f"{run}: resumed at epoch 1, step 4" in caplog.text
    for name, (found,) in runs.items():
        whole = run_folder(compared, name, 0)
        assert rows(found.folder / "metrics.csv")[0]["val_miou"] == rows(whole / "metrics.csv")[0]["val_miou"]
        tensors, expected = load_file(found.last), load_file(whole / "last.safetensors")
        assert all(torch.equal(tensors[key], expected[key]) for key in expected)


@pytest.mark.usefixtures("no_memory_process")
def test_a_run_that_cannot_go_on_is_explained_without_flags_of_training(
    compared: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(compared, tmp_path / "out")
    for file in (run / "checkpoint").iterdir():
        file.write_bytes(b"damaged")
    words = ["compare", str(scenes), "--out", str(tmp_path / "out"), "--epochs", "1", *SETTINGS]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"checkpoints are damaged; delete {run}, and the same command trains it again" in error
    assert "overwrite" not in error
    shutil.rmtree(error.partition("; delete ")[2].partition(",")[0])
    assert main(words) == 0
    assert content(tmp_path / "out")["encoders"][1]["mious"] == content(compared)["encoders"][1]["mious"]


def test_an_interruption_says_that_the_same_command_continues(
    compared: Path,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*arguments: Any, **more: Any) -> None:
        raise Interrupted("interrupted; everything up to epoch 1, step 1 is saved: `resume=True` continues")

    out = shutil.copytree(compared, tmp_path / "out")
    monkeypatch.setattr(study, "train_segmentation", interrupted)
    assert main(["compare", str(scenes), "--out", str(out), "--epochs", "1", *SETTINGS]) == 130
    assert capsys.readouterr().err == "interrupted; progress is saved, and the same command resumes\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "2"], "epochs was {'test_resnet': 1"),
        (["--epochs", "1", "optim.lr=0.5"], "optim.lr was"),
        (["--epochs", "1", "--minutes", "1"], "either --epochs or --minutes"),
        ([], "either --epochs or --minutes"),
    ],
)
def test_other_arguments_need_another_folder(
    compared: Path, scenes: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(scenes), "--out", str(compared), *SETTINGS, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("encoders", ["test_resnet", "test_resnet,test_resnet", "test_resnet,resnet1"])
def test_two_different_encoders_are_needed(
    scenes: Path, tmp_path: Path, encoders: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", str(scenes), "--encoders", encoders, "--epochs", "1", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("encoders", "data", "message"),
    [
        ("test_resnet,vit_tiny_patch16_224", "", "vit_tiny_patch16_224"),
        ("test_resnet,test_efficientnet", "nowhere", "nowhere: no such file or folder"),
    ],
)
def test_an_error_of_the_last_run_is_raised_before_the_first(
    scenes: Path, tmp_path: Path, encoders: str, data: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["compare", str(scenes / data), "--encoders", encoders, "--epochs", "1", "--out", str(out)]
    assert main([*arguments, *TINY[1:]]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.usefixtures("no_memory_process")
def test_a_comparison_is_resumed_by_the_command_that_started_it(
    compared: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(compared, tmp_path / "copy")
    assert main(["compare", str(scenes), "--out", str(out), "--epochs", "1", *SETTINGS]) == 0
    assert capsys.readouterr().out.count("this run is finished; nothing to do") == 2


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(1, "not the variation between trainings"), (3, "3 seeds show roughly")],
)
def test_the_caveat_says_what_the_intervals_are_of(seeds: int, said: str) -> None:
    assert said in caveats(seeds)[0]


@pytest.mark.parametrize("said", ["the best encoder was chosen on the same images", "frames of one sequence"])
def test_the_caveat_says_what_the_intervals_leave_out(said: str) -> None:
    assert said in " ".join(caveats(3))


def result(name: str, miou: float, latency_ms: float) -> EncoderResult:
    cost = EncoderCost(parameters=1, gmac=1.0, latency_ms=latency_ms, memory_mb=1.0, training_seconds=1.0)
    return EncoderResult(name, histories=(), mious=(miou, miou), iou_by_class=(), counts=(), cost=cost)


def test_the_fastest_of_equally_good_encoders_is_recommended() -> None:
    results = [result("deep", 0.75, 30.0), result("middle", 0.745, 20.0), result("shallow", 0.6, 10.0)]
    differences = [
        Difference("deep", "middle", 0.005, -0.01, 0.02),
        Difference("deep", "shallow", 0.15, 0.1, 0.2),
        Difference("middle", "shallow", 0.145, 0.1, 0.2),
    ]
    said = " ".join(conclusions(results, differences))
    assert "middle is as good as deep within noise (0.5 points behind" in said
    assert "and 1.5 times as fast" in said
    assert "shallow is 15.0 points behind deep" in said
    assert "Choose middle: the fastest encoder that is as good as deep within noise." in said


def test_a_wide_interval_does_not_mean_equality() -> None:
    results = [result("deep", 0.75, 30.0), result("shallow", 0.74, 10.0)]
    said = " ".join(conclusions(results, [Difference("deep", "shallow", 0.01, -0.03, 0.05)]))
    assert (
        "The difference between shallow and deep is not significant (1.0 points behind, 95 % interval -3.0 to 5.0)"
        in said
    )
    assert "Choose deep: it has the highest mean IoU, and no encoder equal within noise is faster." in said


def test_one_image_and_one_seed_decide_nothing() -> None:
    results = [result("deep", 0.75, 30.0), result("shallow", 0.65, 40.0)]
    said = " ".join(conclusions(results, [Difference("deep", "shallow", 0.1, 0.1, 0.1)]))
    assert "The difference between shallow and deep is not significant (10.0 points behind" in said


def test_the_pareto_front_excludes_dominated_encoders() -> None:
    results = [result("a", 0.5, 10), result("b", 0.6, 20), result("c", 0.55, 30), result("d", 0.6, 20)]
    assert pareto_front(results, lambda entry: entry.cost.latency_ms) == ("a", "b", "d")
