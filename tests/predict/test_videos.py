import csv
import json
import os
import re
import signal
import sys
import zipfile
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from made_backends import Brightness
from made_files import write
from made_videos import TICKS, bar, read_sound, read_video, write_video
from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.images.decode import read_image
from pyramidseg.images.video_frames import VideoReader
from pyramidseg.predict.outputs import video_outputs
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predict_videos import VideoOptions
from pyramidseg.predict.predictor import Predictor


@pytest.fixture
def predictor():
    return Predictor(Brightness())


def masks_of(frames, predictor):
    return np.stack([predictor.predict(frame).labels for frame in frames])


def entries(out):
    return json.loads((out / "predictions.json").read_text())["images"]


def test_masks_read_back_equal_those_of_the_frames(predictor, tmp_path):
    times = [0, 100, 1500, 1501, 4000, 9000]  # a variable rate
    clip = write_video(tmp_path / "clip.mp4", size=(47, 63), times=times, movie_timescale="15360")
    summary = predict_files(predictor, [clip], tmp_path / "out", save=("video",))
    expected = masks_of([bar(number, 47, 63) for number in range(6)], predictor)
    found, masks = read_video(tmp_path / "out/clip_mask.mp4")
    assert found == [ticks * TICKS for ticks in times] and np.array_equal(masks, expected)
    reader = cv2.VideoCapture(str(tmp_path / "out/clip_mask.mp4"))
    assert all(np.array_equal(reader.read()[1][..., 0], mask) for mask in expected)
    shown, overlay = read_video(tmp_path / "out/clip_overlay.mp4", "rgb24")
    assert shown == found and overlay.shape == (6, 48, 64, 3)
    assert (summary.images, summary.failed, summary.damaged) == (1, [], [])
    colors = predictor.predict(bar(5, 47, 63)).overlay(bar(5, 47, 63))
    assert np.abs(overlay[5, :47, :63].astype(int) - colors).mean() < 6, "the overlay shows the colours of the classes"


@pytest.mark.parametrize(
    ("sound", "suffix", "copied"),
    [
        ("aac", ".mp4", True),
        ("adpcm_ms", ".avi", False),
        ("pcm_s16le", ".avi", False),
        ("pcm_s24le", ".mkv", False),
        ("pcm_s16le", ".mov", False),
    ],
)
def test_sound_is_kept_in_step(predictor, tmp_path, sound, suffix, copied):
    clip = write_video(
        tmp_path / f"clip{suffix}", sound=sound, layout="stereo", codec="ffv1" if suffix == ".mp4" else "mpeg4"
    )
    predict_files(predictor, [clip], tmp_path / "out", save=("video",))
    given, found = read_sound(clip), read_sound(tmp_path / "out/clip_overlay.mp4")
    if copied:
        assert found == given and len(found) > 5
    else:
        assert found[0][0] <= 0 and abs(found[-1][0] - Fraction(12, 24)) < Fraction(1, 8), (
            "encoded again, of the same length"
        )
    times, _ = read_video(tmp_path / "out/clip_overlay.mp4")
    assert times == read_video(clip)[0]


def test_times_count_from_the_start_of_the_file(predictor, tmp_path):
    clip = write_video(tmp_path / "clip.mts", sound="aac", codec="libx264", frames=5)
    assert read_video(clip)[0][0] > 0, "MPEG-TS starts later"
    predict_files(predictor, [clip], tmp_path / "out", save=("video",))
    videos, sounds = (
        [read_video(path)[0][0] - read_sound(path)[0][0], read_video(path)[0][-1] - read_video(path)[0][0]]
        for path in (clip, tmp_path / "out/clip_overlay.mp4")
    )
    assert read_video(tmp_path / "out/clip_overlay.mp4")[0][0] < Fraction(1, 10)
    assert all(abs(one - other) < Fraction(1, 10000) for one, other in zip(videos, sounds, strict=True))


ONE = 2**16
MATRICES = {
    1: (ONE, 0, 0, 0, ONE, 0, 0, 0, 2**30),
    2: (-ONE, 0, 0, 0, ONE, 0, 0, 0, 2**30),
    3: (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 2**30),
    4: (ONE, 0, 0, 0, -ONE, 0, 0, 0, 2**30),
    5: (0, ONE, 0, ONE, 0, 0, 0, 0, 2**30),
    6: (0, ONE, 0, -ONE, 0, 0, 0, 0, 2**30),
    7: (0, -ONE, 0, -ONE, 0, 0, 0, 0, 2**30),
    8: (0, -ONE, 0, ONE, 0, 0, 0, 0, 2**30),
}


@pytest.mark.parametrize("orientation", MATRICES)
def test_the_display_matrix_is_applied(predictor, tmp_path, orientation):
    clip = write_video(tmp_path / "clip.mp4", frames=2, matrix=MATRICES[orientation], aspect=Fraction(2))
    predict_files(predictor, [clip], tmp_path / "out", save=("video",))
    for name in ("mask", "overlay"):
        with av.open(str(tmp_path / f"out/clip_{name}.mp4")) as container:
            expected = Fraction(2) if orientation < 5 else Fraction(1, 2)
            assert container.streams.video[0].sample_aspect_ratio == expected
    upright = Image.fromarray(bar(0)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright.save(tmp_path / "first.png", exif=exif)  # Pillow turns images as this tag says
    assert np.array_equal(
        read_video(tmp_path / "out/clip_mask.mp4")[1][0], predictor.predict(tmp_path / "first.png").labels
    )


def test_another_angle_is_refused(predictor, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", matrix=(46341, 46341, 0, -46341, 46341, 0, 0, 0, 2**30))
    (failed,) = predict_files(predictor, [clip], tmp_path / "out").failed
    assert failed["error"] == f"{clip}: its display matrix turns it by an angle that is not a multiple of 90 degrees"


def test_every_third_frame_keeps_its_time(predictor, tmp_path):
    clip = write_video(tmp_path / "clip.mp4")
    options = VideoOptions(every=3)
    predict_files(predictor, [clip], tmp_path / "out", save=("shares", "plot", "frames"), video=options)
    times, masks = read_video(tmp_path / "out/clip_mask.mp4")
    assert times == [Fraction(number, 24) for number in (0, 3, 6, 9)]
    rows = list(csv.DictReader((tmp_path / "out/clip_shares.csv").read_text().splitlines()))
    assert [(row["frame"], row["seconds"]) for row in rows] == [
        *[("0", "0.000000"), ("3", "0.125000"), ("6", "0.250000"), ("9", "0.375000")]
    ]
    assert [float(row["bright"]) for row in rows] == [(2 * number + 4) / 64 for number in (0, 3, 6, 9)]
    assert {row["absent"] for row in rows} == {"0"}
    assert read_image(tmp_path / "out/clip_shares.png", channels=3).shape[1] > 1000
    (entry,) = entries(tmp_path / "out")
    assert entry["classes"] == {"dark": pytest.approx(1 - 13 / 64), "bright": pytest.approx(13 / 64)}
    with zipfile.ZipFile(tmp_path / "out/clip_masks.zip") as archive:
        assert archive.namelist() == ["000000.png", "000003.png", "000006.png", "000009.png"]
        assert np.array_equal(np.asarray(Image.open(archive.open("000009.png"))), masks[3])


def test_damaged_and_missing_frames_are_counted(predictor, tmp_path):
    whole = write_video(tmp_path / "clip.mp4", frames=30, movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[:-900])
    damaged = bytearray(write_video(tmp_path / "b.mp4", frames=30, codec="ffv1").read_bytes())
    start = damaged.index(b"mdat") + 8
    for place in range(start + 3000, start + 3600, 3):
        damaged[place] ^= 255
    (tmp_path / "b.mp4").write_bytes(damaged)
    (tmp_path / "clip.mp4").unlink()
    summary = predict_files(predictor, [tmp_path / "cut.mp4", tmp_path / "b.mp4"], tmp_path / "out")
    assert not summary.failed
    cut, other = (entry["video"] for entry in entries(tmp_path / "out"))
    assert cut["damaged"] > 0 and cut["frames"] + cut["damaged"] == 30
    assert "before its stated duration" in cut["ended"]
    assert other["damaged"] > 0 and other["ended"] == ""
    assert len(summary.damaged) == 2 and not summary.failed


def test_a_truncated_matroska_file_is_noticed_by_its_duration(predictor, tmp_path):
    times = [round(number / 5 / TICKS) for number in range(20)]
    content = write_video(tmp_path / "a.mkv", times=times).read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2])
    predict_files(predictor, [tmp_path / "a.mkv"], tmp_path / "out")
    (entry,) = entries(tmp_path / "out")
    assert 0 < entry["video"]["frames"] < 20 and "before its stated duration" in entry["video"]["ended"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "Invalid data found when processing input"),
        (b"junk" * 999, "Invalid data found when processing input"),
        (None, "No such file or directory"),
        ("sound", "has no video stream"),
    ],
)
def test_an_unusable_file_costs_itself_only(predictor, tmp_path, content, error):
    clip, good = tmp_path / "a.mp4", write_video(tmp_path / "b.mp4", frames=2)
    if content == "sound":
        with av.open(str(clip), "w") as container:
            tone = container.add_stream("aac", rate=16000)
            tone.layout = "mono"
            block = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
            block.sample_rate = 16000
            container.mux(tone.encode(block))
            container.mux(tone.encode())
    elif content is not None:
        clip.write_bytes(content)
    listed = write(tmp_path / "list.txt", f"{clip}\n{good}\n")
    summary = predict_files(predictor, [listed], tmp_path / "out")
    (failed,) = summary.failed
    assert failed["error"] == f"{clip}: {error}"
    assert summary.images == 2 and len(list((tmp_path / "out").rglob("*_mask.mp4"))) == 1


def test_a_crash_of_the_decoder_costs_one_file(predictor, tmp_path, monkeypatch):
    clips = [write_video(tmp_path / f"{name}.mp4", frames=200, size=(96, 128)) for name in "ab"]
    read = VideoReader._read

    def crash_at_the_fifth(self):
        if self.name == str(clips[0]) and self._last == 5:
            os.kill(self._process.pid, signal.SIGSEGV)
        return read(self)

    monkeypatch.setattr(VideoReader, "_read", crash_at_the_fifth)
    summary = predict_files(predictor, clips, tmp_path / "out")
    (failed,) = summary.failed
    assert re.fullmatch(rf"{clips[0]}: its decoder crashed after frame \d+ \(status -11\)", failed["error"])
    assert [path.name for path in (tmp_path / "out").glob("*.mp4")] == ["b_mask.mp4"]
    assert len(read_video(tmp_path / "out/b_mask.mp4")[0]) == 200


def test_an_error_of_ffmpeg_while_writing_costs_one_file(predictor, tmp_path, monkeypatch):
    clips = [write_video(tmp_path / f"{name}.mp4", frames=2, sound="aac") for name in "ab"]
    join = video_outputs._join

    def join_junk(video, sound, *others):
        if next(iter(tmp_path.glob("out/.a.*")), None):
            sound.write_bytes(b"junk" * 99)
        join(video, sound, *others)

    monkeypatch.setattr(video_outputs, "_join", join_junk)
    (failed,) = predict_files(predictor, clips, tmp_path / "out", save=("video",)).failed
    assert failed["error"] == f"{clips[0]}: its outputs cannot be written: Invalid data found when processing input"
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mp4")) == ["b_mask.mp4", "b_overlay.mp4"]
    assert [entry.get("error", "") for entry in entries(tmp_path / "out")] == [failed["error"], ""]


def test_a_finished_video_is_not_predicted_again(tmp_path):
    clip, backend = write_video(tmp_path / "clip.mp4"), Brightness()
    predictor = Predictor(backend)

    def predicted(save=(), **options):
        backend.batches.clear()
        predict_files(predictor, [clip], tmp_path / "out", save=save, video=VideoOptions(**options))
        return sum(batch[0] for batch in backend.batches)

    assert [predicted(), predicted(), predicted(save=("shares",)), predicted()] == [12, 0, 12, 0]
    assert [predicted(every=2), predicted(every=2), predicted(every=2, smooth=0.5), predicted()] == [6, 0, 6, 12]
    (tmp_path / "out/clip_mask.mp4").write_bytes(b"")
    with pytest.raises(OutputError, match=r"clip_mask.mp4: exists and was not written by pyramidseg"):
        predicted()
    (tmp_path / "out/clip_mask.mp4").unlink()
    assert predicted() == 12
    write_video(clip, frames=3)
    assert predicted() == 3


@pytest.mark.parametrize(
    "name", ["clip_mask.mp4", "clip_overlay.mp4", "clip_masks.zip", "clip_shares.csv", "clip_shares.png"]
)
def test_outputs_are_recognised_and_foreign_files_are_not_replaced(predictor, tmp_path, name):
    clip, save = write_video(tmp_path / "clip.mp4", frames=3), ("video", "frames", "shares", "plot")
    predict_files(predictor, [clip], tmp_path / "out", save=save)
    predict_files(predictor, [clip], tmp_path / "out", save=save, overwrite=True)
    (tmp_path / "out" / name).write_bytes(write_video(tmp_path / "b.mp4", frames=2).read_bytes())
    with pytest.raises(OutputError, match=f"{name}: exists and was not written by pyramidseg"):
        predict_files(predictor, [clip], tmp_path / "out", save=save, overwrite=True)


def test_smoothing_averages_logits_over_time(tmp_path):
    frames = [np.full((48, 64, 3), value, np.uint8) for value in (250, 250, 10, 250, 10, 10, 10, 10)]
    (tmp_path / "f").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"f/{number}.png")
    found = {}
    for smooth in (0.0, 0.7):
        out = tmp_path / str(smooth)
        options = VideoOptions(fps=Fraction(5), smooth=smooth)
        predict_files(Predictor(Brightness()), [tmp_path / "f"], out, save=("shares",), video=options, batch_size=3)
        found[smooth] = read_video(out / "f_mask.mp4")[1][:, 0, 0].tolist()
    mean, expected = None, []
    for frame in frames:
        logit = frame[0, 0, 0] / 255 - 0.5
        mean = logit if mean is None else 0.7 * mean + 0.3 * logit
        expected.append(int(mean > 0))
    assert found == {0.0: [1, 1, 0, 1, 0, 0, 0, 0], 0.7: expected} and expected.count(1) > 3
    tiled = Predictor(Brightness(), tile_px=64)
    with pytest.raises(ConfigError, match="smooth and tiles"):
        predict_files(tiled, [tmp_path / "f"], tmp_path / "t", save=("shares",), video=options)


def test_a_disk_that_is_full_of_sound_is_one_line(predictor, tmp_path, monkeypatch):
    clip = write_video(tmp_path / "clip.mp4", frames=2)
    monkeypatch.setattr(
        VideoReader, "_read", lambda self: self.stream_info.update(damaged=0, ended="No space", errno=28)
    )
    with pytest.raises(OutputError, match=r"out/clip: cannot be written: the disk is full"):
        predict_files(predictor, [clip], tmp_path / "out", save=("video",))


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of files")
def test_a_full_disk_is_one_line_and_leaves_nothing(predictor, tmp_path):
    import resource

    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), np.uint8)
    (tmp_path / "f").mkdir()
    for number, frame in enumerate(noise):
        Image.fromarray(frame).save(tmp_path / f"f/{number}.png")
    options = VideoOptions(fps=Fraction(5))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"out/f.*: cannot be written: the file would be larger than is allowed"):
            predict_files(predictor, [tmp_path / "f"], tmp_path / "out", save=("video",), video=options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.parent.name != "ledger"]
