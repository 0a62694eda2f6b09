"""Training by real Ray Train: the bits of torchrun, also if a process is killed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray", reason="make test-clients")

from pyramidseg.cli.main import main
from pyramidseg.model.segmenter import Segmenter
from support import TINY, process_environment

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries

SETTINGS = (*TINY, "train.epochs=4", "train.batch_size=2", "train.checkpoint_steps=1")


def training_processes() -> list[int]:
    """Processes of Ray Train below this one, without those that load their images."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"TrainWorker" in (folder / "cmdline").read_bytes() and os.getpid() in ancestors(int(folder.name)):
                found.append(int(folder.name))
    return [process for process in sorted(found) if not set(found) & set(ancestors(process))]


def ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(process)
    return found


def test_a_killed_process_costs_no_bit(cluster, scenes, tmp_path, capfd):
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "pyramidseg", "train")
    command = [sys.executable, *words, str(scenes), "--out", str(tmp_path / "torchrun"), *SETTINGS]
    subprocess.run(command, check=True, env=process_environment() | {"PYTHONWARNINGS": "default"}, timeout=600)
    killed = []

    def kill_one() -> None:
        while not list((tmp_path / "ray" / "checkpoint").glob("step-*[3-9].safetensors")):
            time.sleep(0.02)
        killed.extend(training_processes())
        os.kill(killed[-1], signal.SIGKILL)

    threading.Thread(target=kill_one, daemon=True).start()
    out = tmp_path / "ray"
    assert main(["ray-train", str(scenes), "--out", str(out), "--processes", "2", *SETTINGS]) == 0
    assert len(killed) == 2
    assert (out / "metrics.csv").read_text().count("\n") == 5
    found, wanted = (
        Segmenter.load(folder / "last.safetensors").state_dict() for folder in (out, tmp_path / "torchrun")
    )
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ray", "torchrun"]
    capfd.readouterr()
    assert main(["ray-train", str(scenes), "--out", str(out), "--processes", "2", *SETTINGS]) == 2
    assert "exists already; --resume continues this run" in capfd.readouterr().err


def test_an_error_of_the_processes_is_one_line(cluster, scenes, tmp_path, capfd):
    diverges = (*TINY, "optim.lr=1e6", "optim.optimizer=sgd", "optim.clip_norm=0", "train.max_skipped_steps=1")
    command = ["ray-train", str(scenes), "--out", str(tmp_path / "run"), "--processes", "2", "--max-failures", "0"]
    assert main([*command, *diverges]) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: the loss ") and "not finite in 1 steps in a row" in last


def test_what_the_processes_cannot_do_is_refused_before_they_start(scenes, tmp_path, capfd):
    command = ["ray-train", str(scenes), "--processes", "2"]
    for more in ([], ["--out", str(tmp_path / "run"), "--overwrite"], ["--out", str(tmp_path / "run"), "--auto"]):
        assert main([*command, *more]) == 2
        assert "ray-train: needs --out, and takes no --overwrite, --folds or --auto" in capfd.readouterr().err
    assert main([*command, "--out", str(tmp_path / "run"), *TINY, "train.epochs=none"]) == 2
    assert "train.epochs" in capfd.readouterr().err
    assert main([*command, "--out", str(tmp_path / "run"), *TINY, "--dry-run"]) == 0
    assert not (tmp_path / "run").exists()
