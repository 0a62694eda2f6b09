"""A whole comparison of two tiny encoders, as the command makes it."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from pyramidseg.cli.main import main
from pyramidseg.compare.bootstrap import Difference
from pyramidseg.compare.results import EncoderCost, EncoderResult, pareto_front
from pyramidseg.compare.study import run_folder
from pyramidseg.compare.verdict import caveat, verdict
from support import TINY

ENCODERS = "test_resnet,test_efficientnet"
SETTINGS = [*TINY[1:], "train.device=cpu", "--encoders", ENCODERS]


@pytest.fixture(scope="module")
def compared(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compare") / "out"
    assert main(["compare", str(scenes), "--out", str(out), "--epochs", "1", *SETTINGS]) == 0
    return out


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_everything_that_is_promised_is_there(compared: Path) -> None:
    content = json.loads((compared / "comparison.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in content["encoders"]] == ENCODERS.split(",")
    for entry in content["encoders"]:
        assert entry["error"] == pytest.approx(1 - entry["miou"])
        assert min(entry[name] for name in ("parameters", "gmac", "latency_ms", "memory_mb", "training_seconds")) > 0
    assert len(content["pairs"]) == 1
    assert len(rows(compared / "epochs.csv")) == 2
    assert {row["class"] for row in rows(compared / "classes.csv")} >= {"road", "sky"}
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert all(sentence in page for sentence in content["verdict"])
    assert "http://" not in page
    assert "https://" not in page
    assert {path.name for path in compared.glob("*.png")} == {"error.png", "cost.png"}


def test_scores_are_those_of_the_last_epoch(compared: Path) -> None:
    content = json.loads((compared / "comparison.json").read_text(encoding="utf-8"))
    for entry in content["encoders"]:
        (row,) = rows(run_folder(compared, entry["name"], 0) / "metrics.csv")
        assert entry["miou"] == pytest.approx(float(row["val_miou"]), abs=2e-3)  # validated in training's precision


def test_it_goes_on_where_it_stopped_and_takes_more_seeds(
    compared: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = shutil.copytree(compared, tmp_path / "copy")
    before = (run_folder(compared, "test_resnet", 0) / "last.safetensors").stat().st_mtime_ns
    again = ["compare", str(scenes), "--out", str(compared), "--epochs", "1", "--seeds", "2", *SETTINGS]
    assert main(again) == 0
    assert (run_folder(compared, "test_resnet", 0) / "last.safetensors").stat().st_mtime_ns == before
    assert "this run is finished; it is left as it is" in capsys.readouterr().out
    assert len(rows(compared / "epochs.csv")) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "2"], "epochs was {'test_resnet': 1"),
        (["--epochs", "1", "optim.lr=0.5"], "settings was"),
        (["--epochs", "1", "--minutes", "1"], "either --epochs or --minutes"),
        ([], "either --epochs or --minutes"),
    ],
)
def test_another_question_needs_another_folder(
    compared: Path, scenes: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(scenes), "--out", str(compared), *arguments, *SETTINGS]) == 2
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
def test_what_the_last_run_would_be_refused_for_stops_before_the_first(
    scenes: Path, tmp_path: Path, encoders: str, data: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["compare", str(scenes / data), "--encoders", encoders, "--epochs", "1", "--out", str(out)]
    assert main([*arguments, *TINY[1:]]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_comparison_goes_on_by_the_words_that_began_it(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", str(scenes), "--out", str(tmp_path / "out"), "--epochs", "1", *SETTINGS]
    words += ["optim.optimizer=auto", "optim.lr=null"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".comparison.yaml.0123abcd.part").touch()  # of a first try that was killed at once
    assert main(words) == 0
    assert main(words) == 0
    assert capsys.readouterr().out.count("this run is finished; it is left as it is") == 2


@pytest.mark.parametrize(
    ("seeds", "said"),
    [(1, "not how much a second training would differ"), (3, "3 seeds tell only roughly"), (10, "by 10 seeds")],
)
def test_the_caveat_says_what_the_intervals_are_of(seeds: int, said: str) -> None:
    assert said in caveat(seeds)


def result(name: str, miou: float, latency_ms: float) -> EncoderResult:
    cost = EncoderCost(parameters=1, gmac=1.0, latency_ms=latency_ms, memory_mb=1.0, training_seconds=1.0)
    return EncoderResult(name, histories=(), mious=(miou, miou), iou_by_class=(), counts=(), cost=cost)


def test_the_verdict_takes_the_fastest_of_those_that_are_as_good() -> None:
    results = [result("deep", 0.75, 30.0), result("middle", 0.745, 20.0), result("shallow", 0.6, 10.0)]
    differences = [
        Difference("deep", "middle", 0.005, -0.01, 0.02),
        Difference("deep", "shallow", 0.15, 0.1, 0.2),
        Difference("middle", "shallow", 0.145, 0.1, 0.2),
    ]
    said = " ".join(verdict(results, differences))
    assert "middle is as good as deep within noise (0.5 points behind" in said
    assert "and 1.5 times as fast" in said
    assert "shallow is 15.0 points behind deep" in said
    assert "Take middle" in said


def test_the_front_leaves_out_what_another_beats() -> None:
    results = [result("a", 0.5, 10), result("b", 0.6, 20), result("c", 0.55, 30), result("d", 0.6, 20)]
    assert pareto_front(results, lambda entry: entry.cost.latency_ms) == ("a", "b", "d")
