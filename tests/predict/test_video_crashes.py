"""What is left when the decoder of a live stream crashes, and how videos that fail are counted."""

import json
import os
import signal

import pytest

from made_backends import Brightness
from made_videos import read_video, write_video
from pyramidseg.cli.main import main
from pyramidseg.images.video_frames import VideoReader
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor

PATTERN = "lavfi://testsrc=size=64x48:rate=25,realtime"


def crash_after(monkeypatch: pytest.MonkeyPatch, frame: int, number: int = signal.SIGSEGV) -> None:
    read = VideoReader._read

    def crash(self):
        if self._last >= frame:
            os.kill(self._process.pid, number)
        return read(self)

    monkeypatch.setattr(VideoReader, "_read", crash)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_of_the_decoder_keeps_the_recording(number, tmp_path, monkeypatch):
    """SIGKILL is what the kernel sends where memory is short."""
    crash_after(monkeypatch, 5, number)
    summary = predict_files(Predictor(Brightness()), [PATTERN], tmp_path / "out", save=("video", "shares", "frames"))
    assert not summary.failed
    (damaged,) = summary.damaged
    found = damaged["video"]
    rows = [int(line.split(",")[0]) for line in next((tmp_path / "out").glob("*.csv")).read_text().split()[1:]]
    assert found["ended"] == (
        f"its decoder crashed after frame {rows[-1]} (status {-number}); the recording ends there, and has no sound"
    )
    assert found["frames"] == len(rows) >= 2 and found["frames"] + found["dropped"] == rows[-1] + 1
    for name in ("mask", "video"):
        assert len(read_video(tmp_path / "out" / damaged["outputs"][name], "gray")[0]) == found["frames"]


def test_a_crash_with_sound_keeps_the_pictures(tmp_path, monkeypatch):
    """The file of the sound, which the crashed process could not complete, is left out."""
    write_video(tmp_path / "a.ts", frames=300, codec="libx264", sound="aac")
    monkeypatch.setattr("pyramidseg.predict.video_sources._STREAMS", ("file",))
    crash_after(monkeypatch, 5)
    summary = predict_files(Predictor(Brightness()), [f"file://{tmp_path}/a.ts"], tmp_path / "out", save=("video",))
    (damaged,) = summary.damaged
    assert not summary.failed and "crashed after frame" in damaged["video"]["ended"]
    times, _ = read_video(tmp_path / "out" / damaged["outputs"]["video"])
    assert len(times) == damaged["video"]["frames"] >= 1


def test_a_crash_before_the_first_frame_is_an_error(tmp_path, monkeypatch):
    crash_after(monkeypatch, -1)
    summary = predict_files(Predictor(Brightness()), [PATTERN], tmp_path / "out", save=("video",))
    (failed,) = summary.failed
    assert "decoder crashed after frame -1 (status -11)" in failed["error"]
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_failed_videos_are_counted_as_videos(tmp_path, capsys):
    Segmenter(encoder="resnet18", encoder_weights=None, num_classes=2).save(tmp_path / "model.safetensors")
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    arguments = [
        "predict",
        str(tmp_path / "model.safetensors"),
        str(tmp_path / "a.mp4"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(arguments) == 3
    assert f"0 of 1 videos predicted: {tmp_path / 'out'}" in capsys.readouterr().out
    write_video(tmp_path / "b.mp4", frames=2)
    assert main([*arguments, str(tmp_path / "b.mp4")]) == 3
    assert f"1 of 2 videos predicted: {tmp_path / 'out'}" in capsys.readouterr().out
    assert [*json.loads((tmp_path / "out/predictions.json").read_text())["images"][0]] == ["image", "video", "error"]
