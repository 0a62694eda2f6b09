"""`pyramidseg curve`: equal steps on nested parts of the labels, resumed, and what the next hundred are worth."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import pyramidseg as ps
from pyramidseg.base.overrides import load_config
from pyramidseg.cli.main import main
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.studies import learning_curve
from pyramidseg.studies.bootstrap import Counts, percentile_interval, resample
from pyramidseg.studies.cross_validation import continued_settings, write_plan
from pyramidseg.studies.learning_curve import LabelCurve, Repeated, curve_figure
from support import TINY, without_figures


def counts(*hits: float, images: int = 40, noise: float = 0.05) -> list[Counts]:
    """Two classes, each image with 100 pixels of both, of which a share is right; a run for each of `hits`."""
    runs = []
    for share in hits:
        rng = np.random.default_rng(7)
        right = np.clip(np.round(100 * (share + rng.normal(0, noise, images))), 0, 100).astype(np.int64)
        runs.append(np.stack([np.stack([right, 100 - right, 100 - right], axis=1)] * 2, axis=2))
    return runs


def evaluated(**shares: float) -> LabelCurve:
    return learning_curve._evaluated(
        {int(size[1:]): counts(hits) for size, hits in shares.items()}, Path("report.html")
    )


def test_the_next_hundred_labels_add_what_the_last_doubling_added() -> None:
    curve = evaluated(n40=0.5, n100=0.6, n200=0.7, n400=0.75)
    (*_, half), (*_, all_labels) = ([point[:2] for point in curve.points[:3]], [curve.points[3][:2]])
    gained = all_labels[1] - half[1]
    assert curve.next_labels[0] == pytest.approx(gained * math.log2(500 / 400))
    assert curve.next_labels[1] < curve.next_labels[0] < curve.next_labels[2]
    assert f"the next 100 labels are worth {100 * curve.next_labels[0]:.1f} points" in curve.verdict[1]
    assert curve.verdict[1].endswith(").")
    assert f"{100 * gained:.1f} points more" in curve.verdict[0]
    assert [point[0] for point in curve.points] == [40, 100, 200, 400]
    few = evaluated(n2=0.5, n5=0.6, n10=0.7, n20=0.75)
    assert few.more == 20
    assert few.next_labels[0] == pytest.approx(few.points[3][1] - few.points[2][1]), "at most a doubling"
    assert all(low < value < high for _, value, low, high in curve.points)


def test_a_gain_that_is_not_shown_is_said_to_be_none() -> None:
    level = evaluated(n10=0.5, n25=0.6, n50=0.7, n100=0.7)
    assert level.next_labels == (0, 0, 0)
    assert level.verdict[1].endswith("not shown to be more than nothing.")
    worse = evaluated(n10=0.5, n25=0.6, n50=0.7, n100=0.65)
    assert worse.next_labels[0] < 0
    assert "5.5 points less (95 % interval of the gain -" in worse.verdict[0]
    assert worse.verdict[1].endswith("not shown to be more than nothing.")


def test_the_interval_of_a_mean_is_that_of_its_images() -> None:
    (run,) = counts(0.7, images=200)
    low, high = percentile_interval(resample({"a": [run]})["a"])
    shares = run[:, 0, 0] / (run[:, 0, 0] + run[:, 1, 0] + run[:, 2, 0])
    assert high - low == pytest.approx(2 * 1.96 * shares.std() / math.sqrt(200), rel=0.15)


def test_the_figure_has_all_points() -> None:
    svg = curve_figure(evaluated(n40=0.5, n100=0.6, n200=0.7, n400=0.75)).decode()
    for text in ("40", "100", "200", "400", "500", "labelled images", "mean IoU", "measured"):
        assert f">{text}<" in svg


@pytest.fixture(scope="module")
def made(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("curve") / "out"
    with without_figures():
        assert main(["curve", str(scenes), "--out", str(out), "--epochs", "1", *TINY, "data.ignore=200"]) == 0
    return out


def test_all_parts_are_trained_with_equal_steps_and_contain_the_smaller_ones(made: Path, scenes: Path) -> None:
    content = json.loads((made / "curve.json").read_text())
    assert [point[0] for point in content["points"]] == [2, 5, 10, 20]
    for size in (2, 5, 10, 20):
        rows = (made / "runs" / f"{size}-seed0" / "metrics.csv").read_text().splitlines()
        updates = rows[0].split(",").index("updates")
        assert [row.split(",")[updates] for row in rows[1:]] == ["5"]
    page = (made / "report.html").read_text()
    assert all(sentence.split(":")[0] in page for sentence in content["verdict"])
    model = ps.load_model(made / "runs" / "20-seed0" / "last.safetensors")
    opened = open_dataset(scenes, load_config(None, {}).data)
    assert model.classes.names == opened.classes.names


def test_the_same_command_continues_and_another_one_is_refused(
    made: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["curve", str(scenes), "--out", str(made), *TINY, "data.ignore=200"]
    before = json.loads((made / "curve.json").read_text())
    (made / "curve.json").unlink()
    assert main([*words, "--epochs", "1"]) == 0
    assert json.loads((made / "curve.json").read_text()) == before
    assert "this run is finished; nothing to do" in capsys.readouterr().out
    assert main([*words, "--epochs", "2"]) == 2
    assert (
        "epochs was 1 and is 2 now; give the same arguments, or more seeds, or another --out" in capsys.readouterr().err
    )
    assert main([*words, "--epochs", "1", "data.flip=0"]) == 2
    assert "data.flip was None and is 0.0 now" in capsys.readouterr().err
    assert main([*words, "--epochs", "1", "--minutes", "1"]) == 2
    assert "either --epochs or --minutes" in capsys.readouterr().err
    (tmp_path / "other.txt").write_text("mine")
    assert main(["curve", str(scenes), "--out", str(tmp_path), "--epochs", "1", *TINY]) == 2
    assert "exists already and is not a curve" in capsys.readouterr().err


def test_repeated_records_have_the_labels_of_their_image(scenes: Path) -> None:
    opened = open_dataset(scenes, load_config(None, {}).data)
    record = opened.split("train")[0]
    again = ps.Record(f"{record.id}#3", record.image, record.mask)
    assert np.array_equal(Repeated(opened.masks).read(again), opened.masks.read(record))


@pytest.mark.parametrize("setting", ["train.epochs=3", "train.seed=1", "train.patience=2"])
def test_settings_of_the_curve_itself_are_refused_at_the_start(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    assert main(["curve", str(scenes), "--out", str(tmp_path / "out"), "--epochs", "1", setting]) == 2
    assert f"curve: {setting.partition('=')[0]} is set by the curve itself; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_more_seeds_continue_a_curve_and_fewer_do_not(tmp_path: Path) -> None:
    config = load_config(None, {"train.epochs": 1})
    write_plan(tmp_path / "curve.yaml", config, {"seeds": 2, "epochs": 1})
    assert continued_settings(tmp_path / "curve.yaml", load_config(None, {}), {"seeds": 3, "epochs": 1}) == config
    with pytest.raises(ps.ConfigError, match="seeds was 2 and is 1 now"):
        continued_settings(tmp_path / "curve.yaml", config, {"seeds": 1, "epochs": 1})


@dataclass(frozen=True)
class Shown:
    """Masks of one row, by id."""

    labels: dict[str, list[int]]

    def read(self, record: ps.Record) -> np.ndarray:
        return np.array([self.labels[record.id]], np.uint8)


@pytest.mark.parametrize(("alone", "smallest"), [([1], 2), ([0, 1], 2), ([0, 1], 1), ([1, 255], 3)])
def test_the_smallest_part_shows_two_classes(alone: list[int], smallest: int) -> None:
    """One of 20 images shows more than the background."""
    names = [f"{number}" for number in range(20)]
    for rare in names:
        masks = Shown({name: alone if name == rare else [0, 255] for name in names})
        classes = ps.Classes(("background", "car"), ((0, 0, 0), (9, 9, 9)))
        records = tuple(ps.Record(name, Path(name), Path(name)) for name in names)
        order = learning_curve._drawn(
            ps.Dataset("made", "made", classes, masks, {"train": records}), 0, smallest=smallest
        )
        part = {label for record in order[:smallest] for label in masks.labels[record.id]}
        assert {0, 1} <= part
        assert sorted(record.id for record in order) == sorted(names)
