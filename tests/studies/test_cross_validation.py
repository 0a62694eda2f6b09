"""`train --folds K`: every image is scored once, by a model that has not seen it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import pyramidseg as ps
from pyramidseg.base.overrides import load_config
from pyramidseg.cli.main import main
from pyramidseg.data.records import Record
from pyramidseg.demo.scenes import write_scenes
from pyramidseg.formats.splitting import in_folds
from pyramidseg.model.segmenter import load_model
from pyramidseg.studies import cross_validation
from support import TINY

RECORDS = [Record(f"street{index // 4}-{index}", Path(f"{index}.png")) for index in range(22)]


def test_folds_are_of_nearly_equal_size_and_hold_every_image_once() -> None:
    parts = in_folds(RECORDS, 5, group=None, source="data")
    assert sorted(map(len, parts)) == [4, 4, 4, 5, 5]
    assert sorted(record.id for part in parts for record in part) == sorted(record.id for record in RECORDS)
    assert in_folds(reversed(RECORDS), 5, group=None, source="data") != ()
    again = in_folds(RECORDS[::-1], 5, group=None, source="data")
    assert [{record.id for record in part} for part in again] == [{record.id for record in part} for part in parts]


def test_sequences_stay_in_one_fold(tmp_path: Path) -> None:
    parts = in_folds(RECORDS, 3, group=r"street(\d+)", source="data")
    places = [{record.id.partition("-")[0] for record in part} for part in parts]
    assert sum(map(len, places)) == 6
    file = tmp_path / "groups.csv"
    file.write_text("".join(f"{record.id},{record.id.partition('-')[0]}\n" for record in RECORDS))
    assert in_folds(RECORDS, 3, group=str(file), source="data") == in_folds(RECORDS, 3, group="^[^-]+", source="data")
    with pytest.raises(ps.DataError, match=r"6 sequences \(data.group='street.*'\) cannot be divided into 7 folds"):
        in_folds(RECORDS, 7, group=r"street\d+", source="data")


@pytest.fixture(scope="module")
def made(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folds") / "out"
    words = ["data.ignore=200", "train.epochs=1"]  # reading settings are used once, not again for the folds
    assert main(["train", str(scenes), "--folds", "2", "--out", str(out), *TINY, *words]) == 0
    return out


def test_every_image_is_scored_once(made: Path, scenes: Path) -> None:
    images = sum(1 for split in ("train", "val") for _ in (scenes / split / "images").iterdir())
    content = json.loads((made / "folds.json").read_text())
    assert sum(fold["images"] for fold in content["folds"]) == images
    mious = [fold["miou"] for fold in content["folds"]]
    assert content["over folds"]["mIoU"] == pytest.approx({"mean": np.mean(mious), "deviation": np.std(mious, ddof=1)})
    for name, key in (("IoU", "iou"), ("Dice", "dice"), ("precision", "precision"), ("recall", "recall")):
        for at, entry in enumerate(content["folds"][0]["classes"]):
            found = [value for fold in content["folds"] if (value := fold["classes"][at][key]) is not None]
            assert (f"{name} of {entry['name']}" in content["over folds"]) == bool(found)
            if found:
                expected = {"mean": np.mean(found), "deviation": np.std(found, ddof=1) if len(found) > 1 else 0}
                assert content["over folds"][f"{name} of {entry['name']}"] == pytest.approx(expected)
    for name in ("fold1", "fold2", "all"):
        assert (made / name / "report.html").is_file()
    assert (
        ps.load_model(made / "all" / "last.safetensors").classes.names
        == ps.load_model(made / "fold1" / "best.safetensors").classes.names
    )


def test_scores_on_training_images_are_called_that(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(made / "all" / "last.safetensors")]) == 0
    assert " on val (13 of the 13 val images are also in split train), epoch 1" in capsys.readouterr().out
    report = (made / "all" / "report.html").read_text()
    assert "val images are also in split train" in report
    assert "folds.json has the scores on images that a model was not trained on" in report
    assert main(["describe", str(made / "fold1" / "last.safetensors")]) == 0
    assert " on val, epoch 1" in capsys.readouterr().out


def test_finished_runs_are_kept_and_missing_ones_made(
    made: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (made / "fold1/last.safetensors").stat().st_mtime_ns, (made / "folds.json").read_bytes()
    (made / "folds.json").unlink()
    arguments = ["train", str(scenes), "--folds", "2", "--out", str(made), *TINY, "train.epochs=1", "data.ignore=200"]
    assert main(arguments) == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    assert ((made / "fold1/last.safetensors").stat().st_mtime_ns, (made / "folds.json").read_bytes()) == before
    said = capsys.readouterr().out
    assert "mean and standard deviation over 2 folds" in said
    assert "mIoU" in said
    assert "IoU of road" in said
    assert "Dice of road" not in said, "folds.json has it"


def test_a_resumed_call_takes_the_settings_of_the_first(
    made: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for runs that are missing."""
    out = tmp_path / "out"
    shutil.copytree(made, out)
    shutil.rmtree(out / "all")
    assert main(["train", str(scenes), "--folds", "2", "--out", str(out), "--resume"]) == 0
    assert load_model(out / "all" / "last.safetensors").encoder.name == "test_resnet"
    assert main(["train", str(scenes), "--folds", "3", "--out", str(out), "--resume"]) == 2
    assert "folds was 2 and is 3 now" in capsys.readouterr().err
    assert main(["train", str(scenes), "--folds", "2", "--out", str(out), "--resume", "data.flip=0"]) == 2
    assert "data.flip was None and is 0" in capsys.readouterr().err


def test_the_sequences_of_a_dataset_file_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scenes(tmp_path / "data", train=12, val=2, height=64, width=64)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            for number, file in enumerate(sorted((tmp_path / "data" / split / kind).iterdir())):
                file.rename(file.with_name(f"s{number % 4}-{split}{number}{file.suffix}"))
    (tmp_path / "data" / "dataset.yaml").write_text((tmp_path / "data/dataset.yaml").read_text() + "\ngroup: s\\d\n")
    divided = []

    def train(config: object, dataset: ps.Dataset, **options: object) -> None:
        divided.append([{record.id[:2] for record in dataset.splits[name]} for name in ("train", "val")])
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validation, "train_segmentation", train)
    with pytest.raises(KeyboardInterrupt):
        ps.cross_validate(tmp_path / "data", out=tmp_path / "out", folds=2)
    assert not divided[0][0] & divided[0][1]


def test_a_val_share_of_a_dataset_file_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_scenes(tmp_path / "data", train=6, val=1, height=64, width=64)
    shutil.rmtree(tmp_path / "data" / "val")
    with (tmp_path / "data" / "dataset.yaml").open("a") as file:
        file.write("\nval_share: 0.3\n")
    sizes = []

    def train(config: object, dataset: ps.Dataset, **options: object) -> None:
        sizes.append([len(dataset.splits[name]) for name in ("train", "val")])
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validation, "train_segmentation", train)
    caplog.set_level("INFO")
    with pytest.raises(KeyboardInterrupt):
        ps.cross_validate(tmp_path / "data", out=tmp_path / "out", folds=3)
    assert sizes == [[4, 2]]
    assert "val_share=0.3: not used, as the folds are the validation splits" in caplog.text


@pytest.mark.parametrize(
    ("folds", "settings", "message"),
    [
        (1, {}, "`folds=1`: at least 2 are needed"),
        (1000, {}, "cannot be divided into 1000 folds; choose fewer"),
        (2, {"data.val_share": "0.5"}, "the folds are the validation splits"),
        (2, {"train.patience": "3"}, "would choose an epoch by the images of the score"),
    ],
)
def test_what_cannot_be_done_is_refused(
    scenes: Path, tmp_path: Path, folds: int, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ps.PyramidSegError, match=message):
        ps.cross_validate(scenes, out=tmp_path / "out", folds=folds, config=load_config(None, settings))
    assert not (tmp_path / "out").exists()
