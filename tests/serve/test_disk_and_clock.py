"""A full disk, readers of the log that have gone, clocks that jump, and a machine that sleeps."""

import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from made_server import noise, png, server_process, serving, small_bundle
from pyramidseg.base.files import explained_writes
from pyramidseg.base.log import configure_logging
from pyramidseg.serve.label_studio_backend import LabelEvent
from pyramidseg.serve.label_training import LabelTraining
from support import process_environment

CONTENT = png(noise(40, 60))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("model") / "street.safetensors")


def ask(url, path="/segment?format=labels", body=CONTENT):
    with urllib.request.urlopen(urllib.request.Request(url + path, body), timeout=30) as answer:
        return answer.status, answer.read()


def answers_when_its_log_cannot_be_written(url):
    found = {ask(url)[1] for _ in range(30)}
    assert len(found) == 1  # the same labels each time
    for wrong in (b"text", b""):
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(url, body=wrong)
    assert ask(url, "/metrics", None)[0] == 200


@pytest.mark.skipif(sys.platform == "win32", reason="ulimit")
def test_a_full_disk_under_the_log_stops_no_answer(bundle, tmp_path):
    """Files may have 2 KiB: about ten lines of the access log."""
    command = f"ulimit -f 2; exec {sys.executable} -B -m pyramidseg serve {bundle} --port 0 --device cpu"
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(["bash", "-c", command], stdout=out, stderr=err, env=process_environment())
    try:
        while b" on http" not in (tmp_path / "out").read_bytes():
            assert process.poll() is None, (tmp_path / "err").read_text()
            time.sleep(0.05)
        url = (tmp_path / "out").read_text().splitlines()[0].rpartition(" on ")[2]
        answers_when_its_log_cannot_be_written(url)
        assert (tmp_path / "out").stat().st_size == 2048
    finally:
        process.terminate()
        assert process.wait(40) == 0


def test_a_log_without_a_reader_stops_no_answer(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    try:
        with serving() as client:
            configure_logging(progress=False, serving=True)
            monkeypatch.setattr("sys.stdout", Gone())
            monkeypatch.setattr("sys.stderr", Gone())
            for _ in range(3):
                assert client.post("/segment", content=CONTENT).status_code == 200
            configure_logging(progress=False)
            with pytest.raises(BrokenPipeError):  # as for `pyramidseg predict | head`
                logging.getLogger("pyramidseg.any").info("text")
    finally:
        monkeypatch.undo()
        configure_logging()


def test_annotations_are_counted_while_the_state_cannot_be_written(bundle, tmp_path, monkeypatch, caplog):
    training = LabelTraining(tmp_path, after=9, model=str(bundle))

    def full(path, content):
        with explained_writes(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyramidseg.base.files.write_bytes", full)
    with serving(app={"receive": training.receive}) as client:
        event = {"action": "ANNOTATION_CREATED", "annotation": {"id": 5}, "project": {"id": 1}}
        answer = client.post("/webhook", json=event)
    assert answer.status_code == 201 and answer.json()["result"] == {"annotations": 1}
    assert training.state.annotations == (5,) and "a restart would not know" in caplog.text
    monkeypatch.undo()
    training.receive(LabelEvent.model_validate(event | {"annotation": {"id": 6}}))
    assert json.loads((tmp_path / "state.json").read_text())["annotations"] == [5, 6]


def test_clocks_that_jump_change_nothing(monkeypatch):
    """By a day there and back, and to before 1970, at each look."""
    jumps = iter([86400.0, -86400.0, -2e9, 4e9] * 10_000)
    real = time.time
    with serving(timeout_s=5) as client:
        expected = client.post("/segment?format=labels", content=CONTENT).content
        monkeypatch.setattr("time.time", lambda: real() + next(jumps))
        gmtime = time.gmtime
        monkeypatch.setattr("time.gmtime", lambda seconds=None: gmtime(abs(real() + next(jumps))))
        for _ in range(20):
            answer = client.post("/segment?format=labels", content=CONTENT)
            assert answer.status_code == 200 and answer.content == expected
            assert client.get("/health/ready").status_code == 200


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="POSIX signals")
def test_a_machine_that_sleeps_loses_no_worker(bundle):
    """Longer than the time after which a worker counts as hung, with the time going on."""
    with server_process(bundle, "--device", "cpu", "--timeout-s", "1") as (url, process):
        before = ask(url)
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        processes = [process.pid, *map(int, children.stdout.split())]
        for number in processes:
            os.kill(number, signal.SIGSTOP)
        time.sleep(2.5)
        for number in processes:
            os.kill(number, signal.SIGCONT)
        assert ask(url) == before
        assert b'workers_replaced_total{model="street"}' not in ask(url, "/metrics", None)[1]
