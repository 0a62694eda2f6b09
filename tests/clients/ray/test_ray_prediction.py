"""Prediction by real Ray: the files of the plain engine, whatever happens to workers."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="make test-clients")

from pyramidseg.base.errors import ConfigError, PyramidSegError
from pyramidseg.cli.main import main
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.ray_engine import RayEngine

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries

TWO = ("--engine", "ray", "--ray-workers", "2")


def contents(folder):
    """All files but the ledger's."""
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.parent.name != "ledger"}


def ledger_lines(folder):
    files = (Path(folder) / "ledger").glob("*.jsonl")
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines() if line.endswith("}")]
    return [line for line in lines if not line["key"].startswith("//")]


def process_ids(folder):
    return sorted({int(path.name.split("-")[1]) for path in (Path(folder) / "ledger").glob("*.jsonl")})


def test_the_command_writes_the_files_of_the_plain_engine(model, images, tmp_path):
    (images / "broken.png").write_bytes(b"\x89PNG broken")
    command = [sys.executable, "-m", "pyramidseg", "predict", str(model), "images", "--save", "overlay,confidence"]
    src = str(Path(__file__).parents[3] / "src")
    run = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": src}, "capture_output": True, "text": True}
    plain = subprocess.run([*command, "--out", "plain"], **run)
    found = subprocess.run([*command, "--out", "ray", *TWO], **run)
    assert (plain.returncode, found.returncode) == (3, 3), found.stderr
    assert "40 of 41 images predicted: ray" in found.stdout
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    assert len(process_ids(tmp_path / "ray")) == 2
    again = subprocess.run([*command, "--out", "ray"], **run)  # by the other engine
    assert "40 of them by an earlier call, and unchanged" in again.stdout
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")


def test_a_killed_worker_costs_the_images_in_flight(cluster, model, images, tmp_path):
    predict_files(Predictor(model, device="cpu"), [images], tmp_path / "plain")
    killed = []

    def kill_one():
        while len(ledger_lines(tmp_path / "ray")) < 8 or len(process_ids(tmp_path / "ray")) < 2:
            time.sleep(0.01)
        killed.append(process_ids(tmp_path / "ray")[0])
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    summary = predict_files(
        Predictor(model, device="cpu"), [images], tmp_path / "ray", engine=RayEngine(workers=(2, 2)), batch_size=2
    )
    assert summary.images == 40 and not summary.failed
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    assert killed and len(process_ids(tmp_path / "ray")) == 3
    counts = Counter(line["key"] for line in ledger_lines(tmp_path / "ray"))
    assert len(counts) == 40 and sum(counts.values()) <= 41  # one may be in the ledger and not yet on the board


def test_an_image_that_ends_its_process_is_given_up_and_named(cluster, model, images, tmp_path, capfd):
    (images / "10-deadly.png").write_bytes((images / "10.png").read_bytes())
    status = main(["predict", str(model), str(images), "--out", str(tmp_path / "ray"), "--device", "cpu", *TWO])
    assert status == 3
    error = "given up, as 3 processes ended while they predicted it"
    assert f"not predicted: {images / '10-deadly.png'}: {error}" in capfd.readouterr().err
    entries = json.loads((tmp_path / "ray" / "predictions.json").read_text())["images"]
    failed = [entry for entry in entries if "error" in entry]
    assert len(entries) == 41 and [Path(entry["image"]).name for entry in failed] == ["10-deadly.png"]
    assert len(list((tmp_path / "ray").glob("*.png"))) == 40
    assert len(process_ids(tmp_path / "ray")) <= 5
    (images / "10-deadly.png").rename(images / "harmless.png")
    assert main(["predict", str(model), str(images), "--out", str(tmp_path / "ray"), "--device", "cpu"]) == 0


def test_workers_that_cannot_start_are_given_up_after_three_tries(cluster, model, images, tmp_path):
    predictor = Predictor(model, device="cpu")
    predictor.arguments["device"] = "cuda"  # as where the workers' machines differ from this one
    with pytest.raises(PyramidSegError, match=r"cannot be started, tried 3 times: `device=cuda`: no CUDA GPU"):
        predict_files(predictor, [images], tmp_path / "ray", engine=RayEngine(workers=(1, 1), gpus_per_worker=0))
    with pytest.raises(ConfigError, match="`gpus_per_worker=1`: this machine has 0; give 0, or a `ray_address`"):
        predict_files(predictor, [images], tmp_path / "ray", engine=RayEngine(gpus_per_worker=1))
    assert not (tmp_path / "ray").exists()


# The last one: its worker keeps a processor of the cluster.
def test_a_hanging_image_ends_the_prediction_and_is_named(cluster, model, images, tmp_path):
    (images / "endless.png").write_bytes((images / "00.png").read_bytes())
    engine = RayEngine(workers=(2, 2), ray_timeout=1.5)
    with pytest.raises(PyramidSegError, match=r"in flight: \S*/endless\.png; 40 of 41 images are done"):
        predict_files(Predictor(model, device="cpu"), [images], tmp_path / "ray", engine=engine)
    (images / "endless.png").unlink()
    assert predict_files(Predictor(model, device="cpu"), [images], tmp_path / "ray").unchanged == 40
