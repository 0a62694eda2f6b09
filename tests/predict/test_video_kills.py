"""A call that is killed while it predicts a video leaves no output, and the next one completes them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forks import PythonProcess
from made_videos import read_video, write_video

CALL = """
import sys, time
sys.path.insert(0, {tests!r})
from made_backends import Brightness
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor

class Slow(Brightness):
    def coarse_logits(self, images):
        time.sleep({seconds})
        return super().coarse_logits(images)

predict_files(Predictor(Slow()), {sources!r}, {out!r}, save=("video", "shares", "frames"))
"""


def start(tmp_path: Path, seconds: float) -> PythonProcess:
    sources, out = [str(tmp_path / "in/a.mp4"), str(tmp_path / "in/b.mp4")], str(tmp_path / "out")
    code = CALL.format(tests=str(Path(__file__).parents[1]), seconds=seconds, sources=sources, out=out)
    return PythonProcess("-c", code)


def outputs(tmp_path: Path) -> list[str]:
    """Everything but the ledger, with what hidden folders hold."""
    files = (path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file())
    return sorted(str(path) for path in files if path.parts[0] != "ledger")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_nothing_half_written_stays_and_finished_videos_are_kept(tmp_path):
    for name, frames in (("a", 4), ("b", 100)):
        write_video(tmp_path / f"in/{name}.mp4", frames=frames, sound="aac")
    ledger = tmp_path / "out/ledger"
    with start(tmp_path, 0.2) as process:
        while not any(b"a.mp4" in path.read_bytes() for path in ledger.glob("*")):
            assert not process.has_ended(), process.errors()
            time.sleep(0.02)
        time.sleep(0.5)  # it is within the second video, which takes five seconds
        process.send(signal.SIGKILL, workers=False)
        assert process.wait() == -signal.SIGKILL
    found = [name for name in outputs(tmp_path) if not name.startswith(".")]
    assert found == ["a_mask.mp4", "a_masks.zip", "a_overlay.mp4", "a_shares.csv"]
    finished = (tmp_path / "out/a_mask.mp4").stat().st_mtime_ns
    with start(tmp_path, 0) as process:
        assert process.wait(300) == 0, process.errors()
    assert (tmp_path / "out/a_mask.mp4").stat().st_mtime_ns == finished, "it is not predicted again"
    assert len(read_video(tmp_path / "out/b_mask.mp4")[0]) == 100
    names = [f"{name}_{ending}" for name in "ab" for ending in ("mask.mp4", "masks.zip", "overlay.mp4", "shares.csv")]
    assert outputs(tmp_path) == sorted([*names, "predictions.json"]), "leftovers are deleted"
    children = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
    assert f"{tmp_path}/in" not in children.replace(str(os.getpid()), ""), "no decoder is left"
