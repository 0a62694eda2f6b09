"""`pyramidseg inspect`, as people run it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from planted_pairs import scene
from planting import paired, write_dataset
from pyramidseg.base.overrides import load_config
from pyramidseg.cli.main import main
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.contact_sheet import make_sample
from pyramidseg.inspection.prepare_data import prepare_data, training_samples
from support import TINY


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_clean_data_leaves_a_report_and_status_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=1, good=12)
    assert run("inspect", layout.source, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "train: 9 images" in said
    assert "no defects found" in said
    assert str(tmp_path / "out/inspection.html") in said


def test_defects_are_listed_one_by_one_with_status_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = paired(tmp_path / "data")
    planted = write_dataset(layout, seed=2, good=60, times=1)
    assert run("inspect", layout.source, "--out", tmp_path / "out") == 3
    said = capsys.readouterr().out
    for kind, file in planted:
        assert f"  {file}: " in said
        assert f"{kind} (" in said
    assert f"{len(planted)} defects found" in said
    content = json.loads((tmp_path / "out/inspection.json").read_text())
    assert sorted((entry["kind"], entry["file"]) for entry in content["defects"]) == sorted(
        (str(kind), str(file)) for kind, file in planted
    )


def test_report_lies_in_a_folder_here_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=3, good=8)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run("inspect", layout.source) == 0
    assert (tmp_path / "here/inspection/inspection.html").is_file()
    assert run("inspect", layout.source) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run("inspect", layout.source, "--overwrite") == 0


def test_settings_say_how_the_data_is_read(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for index in range(3):
            for kind, pixels in (
                ("images", scene(np.random.default_rng(index + 10 * (split == "val")))[0]),
                ("masks", np.resize(np.array([0, 255], np.uint8), (30, 40))),
            ):
                (tmp_path / "data" / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / "data" / split / kind / f"{index}.png")
    assert run("inspect", tmp_path / "data", "--out", tmp_path / "unsaid") == 3
    assert run("inspect", tmp_path / "data", "--out", tmp_path / "said", "data.binary=true") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect"], "DATASET"),
        (["inspect", "nowhere"], "nowhere: no such file or folder"),
        (["inspect", "nowhere", "--ouf", "x"], "did you mean --out?"),
        (["inspect", "nowhere", "data.binry=true"], "did you mean 'data.binary'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_training_starts_from_what_was_proposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=4, good=12)
    assert run("inspect", layout.source, "--out", tmp_path / "out") == 0
    file, settings = tmp_path / "out/dataset.yaml", tmp_path / "out/settings.yaml"
    assert run("train", file, "--config", settings, "--out", tmp_path / "run", "--dry-run", *TINY) == 0
    assert "configuration and dataset are valid" in capsys.readouterr().out


def test_train_warns_of_turns_that_sizes_do_not_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=5, good=12)
    image, exif = layout.image("train", "good_000"), Image.Exif()
    exif[0x0112] = 3
    Image.open(image).save(image, exif=exif)
    assert run("train", layout.source, "--out", tmp_path / "run", "--dry-run", *TINY) == 0
    assert "warning: 1 files are turned by their EXIF orientation" in (said := capsys.readouterr().err)
    assert str(image) in said


def test_crops_as_training_sees_them_are_shown_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are those of training: equal to what its samples give for the first epoch."""
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=3, good=8)
    settings = ("data.augment=aerial", "data.crop=32x48")
    assert run("inspect", layout.source, "--out", tmp_path / "out", "--augmented", *settings) == 0
    page = (tmp_path / "out/inspection.html").read_text(encoding="utf-8")
    shown = page.partition("As training sees them")[2].partition("<h2>")[0]
    assert shown.count("<figure") == 6
    config = load_config(None, dict(text.split("=") for text in settings))
    samples, _ = training_samples(prepare_data(layout.source, config), workers=0, processes=1)
    image, labels, _ = samples[0, 0]
    drawn = make_sample(open_dataset(layout.source, config.data).classes, "train", "a", image, labels)
    assert drawn.image in shown
    assert drawn.mask in shown
    first = min(path for path in layout.source.rglob("*") if path.suffix in (".png", ".jpg") and "train" in str(path))
    first.write_bytes(b"damaged")  # the sheet shows the others
    assert run("inspect", layout.source, "--out", tmp_path / "damaged", "--augmented", *settings) == 3
    assert "As training sees them" in (tmp_path / "damaged/inspection.html").read_text(encoding="utf-8")
    assert run("inspect", layout.source, "--out", tmp_path / "other", *settings) == 2
    assert "data.augment=aerial: has no effect here" in capsys.readouterr().err
    assert run("inspect", layout.source, "--out", tmp_path / "other", "--augmented", "loss.dice=0") == 2
