"""MLflow and Weights & Biases, offline and unmodified: what they hold of a run that was killed and resumed."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("mlflow", reason="make test-clients")
pytest.importorskip("wandb", reason="make test-clients")

import mlflow

from pyramidseg.demo.scenes import write_scenes

SETTINGS = ("model.encoder=test_resnet", "model.encoder_weights=none", "model.pyramid_channels=32", "data.crop=64")
SETTINGS += ("train.epochs=3", "train.checkpoint_steps=1", "data.workers=0", "train.device=cpu")


def training(scenes: Path, run: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "pyramidseg", "train", str(scenes), "--out", str(run)]
    return [*command, *SETTINGS, "train.track=[tensorboard,mlflow,wandb]", *options]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own
def test_a_killed_and_resumed_run_is_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for name, value in (
        ("MLFLOW_TRACKING_URI", store),
        ("MLFLOW_EXPERIMENT_NAME", "streets"),
        ("WANDB_MODE", "offline"),
        ("WANDB_DIR", str(tmp_path)),
    ):
        monkeypatch.setenv(name, value)
    scenes, run = tmp_path / "scenes", tmp_path / "mine"
    write_scenes(scenes, train=8, val=2, height=64, width=96)
    process = subprocess.Popen(training(scenes, run), stdout=subprocess.DEVNULL)
    while process.poll() is None and not (run / "metrics.csv").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    ids = json.loads((run / "trackers.json").read_text())
    assert set(ids) == {"mlflow", "wandb"}
    subprocess.run(training(scenes, run, "--resume"), check=True, stdout=subprocess.DEVNULL)
    assert json.loads((run / "trackers.json").read_text()) == ids
    assert list((run / "tensorboard").glob("events*"))

    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("streets")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_id, found.info.run_name, found.info.status) == (ids["mlflow"], "mine", "FINISHED")
    assert found.data.params["model.encoder"] == "test_resnet"
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    history = {metric.step: metric.value for metric in client.get_metric_history(ids["mlflow"], "val/miou")}
    assert history == {int(row["epoch"]): pytest.approx(float(row["val_miou"]), rel=1e-5) for row in rows}
    assert sorted(history) == [1, 2, 3]

    folders = list((tmp_path / "wandb").glob(f"offline-run-*-{ids['wandb']}"))
    assert len(folders) == 2, "one for each process; `wandb sync` joins them by the id"


def test_without_a_server_mlflow_writes_a_database_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_scenes(tmp_path / "scenes", train=4, val=2, height=64, width=96)
    command = training(tmp_path / "scenes", Path("run"), "train.track=mlflow")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tmp_path)
    assert (tmp_path / "mlflow.db").is_file()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    done = subprocess.run([*command, "--overwrite"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "sqlite:///mlflow.db" in done.stderr and "MLFLOW_ALLOW_FILE_STORE=true" in done.stderr


def test_a_server_that_is_away_is_named_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    scenes = tmp_path / "scenes"
    write_scenes(scenes, train=4, val=2, height=64, width=96)
    command = training(scenes, tmp_path / "run", "train.track=mlflow")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    *_, line = done.stderr.strip().splitlines()
    assert line.startswith("error: train.track: mlflow cannot be used: ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "metrics.csv").exists()
