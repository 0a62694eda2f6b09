"""The parts of the Ray engine that need no Ray: the plan, the messages, and what a worker does with a batch."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from made_backends import Brightness
from pyramidseg.base.errors import ConfigError, MissingExtra, OutputError
from pyramidseg.cli.main import main
from pyramidseg.cli.predict import worker_range
from pyramidseg.images.scene import FULL_RESOLUTION
from pyramidseg.predict import ray_engine
from pyramidseg.predict.job_board import BoardStatus, JobBoard
from pyramidseg.predict.outputs.polygon_layers import EXACT_POLYGONS
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.ray_engine import RayEngine, RayWorker, Workers, hang_message, join_folder, plan_workers
from pyramidseg.predict.resumption import Job, PredictionTask, RunDigests
from pyramidseg.predict.sources import Source

HEAD, CPU, GPU = {"CPU": 2.0}, {"CPU": 16.0}, {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "expected"),
    [
        ([HEAD], None, 0, Workers((1, 1), 2, 0, 1)),
        ([HEAD], (2, 2), 0, Workers((2, 2), 1, 0, 2)),
        ([HEAD], (1, 8), 0, Workers((1, 8), 1, 0, 2)),
        ([CPU], None, 0, Workers((4, 4), 4, 0, 4)),
        ([CPU, HEAD], None, 0, Workers((4, 4), 4, 0, 4)),
        ([CPU, CPU], (3, 3), 0, Workers((3, 3), 8, 0, 2)),
        ([HEAD, GPU, GPU], None, 1, Workers((8, 8), 8, 1, 4)),
        ([GPU], (1, 2), 1, Workers((1, 2), 16, 1, 2)),
        ([GPU], None, 0.5, Workers((8, 8), 4, 0.5, 8)),
        ([GPU], None, 2, Workers((2, 2), 16, 2, 2)),
        ([HEAD], (1, 4), 1, Workers((1, 4), 1, 1, 1)),  # machines with GPUs are still to come
        ([{}], None, 0, Workers((1, 1), 1, 0, 1)),
    ],
)
def test_workers_get_the_threads_that_leave_room_for_all(nodes, workers, gpus, expected):
    assert plan_workers(nodes, workers, gpus) == expected


def jobs_of(*names):
    return [Job(Source(name, Path(name).stem), 1, "t", "f") for name in names]


def test_a_hang_names_what_was_in_flight_or_what_is_missing():
    jobs, plan = jobs_of("a.png", "b.png", "c.png"), Workers((1, 1), 2, 1, 1)
    found = hang_message(BoardStatus(1, [1, 2], 1, 9, ""), jobs, plan, 1800)
    assert "nothing has happened for 30:00; in flight: b.png, c.png; 1 of 3 images are done" in found
    found = hang_message(BoardStatus(0, [], 0, 0, ""), jobs, plan, 90)
    assert found.endswith("for 1:30, and no worker has started: each needs 2 processors and 1 GPUs")


def test_options_of_ray_and_numbers_of_workers(capsys):
    assert [worker_range(text) for text in ("4", "2:8", "3:3")] == [(4, 4), (2, 8), (3, 3)]
    for text in ("0", "8:2", "2:", ":2", "x", "-1", "1:2:3", "0:4"):
        assert main(["predict", "m", "i", "--out", "o", "--engine", "ray", f"--ray-workers={text}"]) == 2
        assert f"{text!r} is not a number of workers; write 4, or MIN:MAX such as 2:8" in capsys.readouterr().err
    assert main(["predict", "m", "i", "--out", "o", "--ray-address", "auto"]) == 2
    assert "--ray-address: is an option of --engine ray; add that as well" in capsys.readouterr().err


def test_numbers_out_of_range_are_refused(capsys):
    for gpus in ("-1", "nan", "inf", "1.5"):
        with pytest.raises(ConfigError, match=f"`gpus_per_worker={gpus}`: must be a whole number, or a part of a GPU"):
            RayEngine(gpus_per_worker=float(gpus))
    for minutes in ("-1", "0", "nan", "inf"):
        assert main(["predict", "m", "i", "--out", "o", "--engine", "ray", f"--ray-timeout={minutes}"]) == 2
        assert f"--ray-timeout {minutes}: must be minutes, more than 0" in capsys.readouterr().err
    assert [RayEngine(gpus_per_worker=gpus).gpus_per_worker for gpus in (None, 0, 0.5, 2)] == [None, 0, 0.5, 2]
    assert main(["ray-train", "d", "--out", "o", "--processes", "0"]) == 2
    assert "--processes and --threads must be at least 1" in capsys.readouterr().err
    for rate in ("25/0", "x"):
        assert main(["predict", "m", "i", "--out", "o", "--fps", rate]) == 2
        assert f"--fps: '{rate}' is not a frame rate; write 25, or 30000/1001" in capsys.readouterr().err


def test_without_ray_or_with_a_model_in_memory_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(b"")
    predictor = Predictor(Brightness())
    with pytest.raises(ValueError, match="an object of type Brightness"):
        RayEngine()(predictor, [], None)
    predictor.arguments["model"] = tmp_path / "a.safetensors"
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"prediction on Ray needs ray, .*: pip install 'pyramidseg\[ray\]'"):
        RayEngine()(predictor, [], None)


def test_the_model_goes_with_its_exports(tmp_path):
    for name in ("m.safetensors", "m.onnx", "m-int8.xml", "m-int8.bin", "m.txt", "other.onnx"):
        (tmp_path / name).write_bytes(name.encode())
    predictor = Predictor(Brightness())
    predictor.arguments["model"] = str(tmp_path / "m.safetensors")
    files = ray_engine._model_files(predictor)
    assert next(iter(files)) == "m.safetensors" and set(files) == {
        "m.safetensors",
        "m.onnx",
        "m-int8.xml",
        "m-int8.bin",
    }
    assert files["m.onnx"] == b"m.onnx"


def test_a_folder_that_is_not_that_of_the_command_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"is another folder on \S+; all machines have to share `out`"):
        join_folder(str(tmp_path))


class HereAndNow(SimpleNamespace):
    """A stand-in of Ray whose actors are objects of this process, whose results are there at once."""

    def __init__(self):
        super().__init__(get=lambda value: value, get_runtime_context=lambda: SimpleNamespace(get_actor_id=lambda: "w"))

    @staticmethod
    def actor(plain):
        methods = (name for name in dir(plain) if not name.startswith("_"))
        return SimpleNamespace(**{name: SimpleNamespace(remote=getattr(plain, name)) for name in methods})


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(6):
        Image.fromarray(np.full((4, 5, 3), 40 * number, np.uint8)).save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("begun", [{}, {2: 1}, {2: 3}, {0: 2, 2: 3, 3: 1}])
def test_a_worker_writes_what_one_process_writes(images, tmp_path, monkeypatch, begun):
    """With images that earlier processes had begun, and image 5 which one had finished."""
    monkeypatch.setitem(sys.modules, "ray", HereAndNow())
    monkeypatch.setattr(ray_engine, "_load", lambda files, arguments, plan: Predictor(Brightness()))
    predict_files(Predictor(Brightness()), [images], tmp_path / "plain")
    returned, board = {}, JobBoard(6)

    def engine(predictor, jobs, task: PredictionTask):
        for number, tries in begun.items():
            for _ in range(tries):
                board.claim([number])
                board.begin(number)
        constants = {"files": None, "arguments": {}, "folder": "", "plan": Workers((1, 1), 1, 0, 1)}
        worker = RayWorker(**constants, task=task, board=HereAndNow.actor(board))
        rows = [json.dumps([n, job.source.location, job.source.stem, *job[1:]]) for n, job in enumerate(jobs)]
        returned.update(worker({"item": rows[5:]}))
        returned.update(worker({"item": rows}))
        worker._ledger.close()

    summary = predict_files(Predictor(Brightness()), [images], tmp_path / "ray", engine=engine)
    given_up = [number for number, tries in begun.items() if tries == 3]
    error = "given up, as 3 processes ended while they predicted it"
    assert [entry["error"] for entry in summary.failed] == [f"{images / f'{n}.png'}: {error}" for n in given_up]
    assert sorted(returned["path"]) == [f"{number}.png" for number in range(5)]
    assert dict(zip(*returned.values(), strict=True)) == {
        f"{number}.png": 0.0 if number in given_up else 1.0 for number in range(5)
    }
    assert board.status()[:3] == (6, [], 1)
    for number in set(range(6)) - set(given_up):
        assert (tmp_path / "ray" / f"{number}.png").read_bytes() == (tmp_path / "plain" / f"{number}.png").read_bytes()
    texts = [(tmp_path / name / "predictions.json").read_text() for name in ("ray", "plain")]
    assert (texts[0] == texts[1]) is not bool(given_up)
    assert predict_files(Predictor(Brightness()), [images], tmp_path / "ray").unchanged == 6 - len(given_up)


def test_a_full_disk_ends_the_whole_prediction(images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", HereAndNow())
    monkeypatch.setattr(ray_engine, "_load", lambda files, arguments, plan: Predictor(Brightness()))
    board = JobBoard(1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".pyramidseg.lock").touch()
    task = PredictionTask(str(tmp_path / "out"), ("mask",), EXACT_POLYGONS, FULL_RESOLUTION, 1, RunDigests("m", "s"))
    constants = {"files": None, "arguments": {}, "folder": "/none", "plan": Workers((1, 1), 1, 0, 1)}
    worker = RayWorker(**constants, task=task, board=HereAndNow.actor(board))

    def full(*_, **__):
        raise OutputError("the disk is full")

    monkeypatch.setattr(ray_engine, "record", full)
    job = Job(Source(str(images / "0.png"), "0"), 1, "t", "f")
    with pytest.raises(OutputError):
        worker({"item": [json.dumps([0, job.source.location, job.source.stem, *job[1:]])]})
    assert board.status().failure == "the disk is full"
