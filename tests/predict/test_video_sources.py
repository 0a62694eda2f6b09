import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from made_backends import Brightness
from made_videos import bar, read_video, write_video
from pyramidseg.base.errors import ConfigError, DataError, MissingExtra
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predict_videos import VideoOptions
from pyramidseg.predict.predictor import Predictor


@pytest.fixture
def predictor():
    return Predictor(Brightness())


def masks_of(frames, predictor):
    return np.stack([predictor.predict(frame).labels for frame in frames])


def test_a_folder_of_frames_is_a_video(predictor, tmp_path):
    for number in (0, 1, 2, 10):
        (tmp_path / "frames/a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(bar(number)).save(tmp_path / f"frames/a/{number}.png")
    (tmp_path / "frames/a/3.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"frames/a: a folder of frames has no frame rate; give it, such as `fps=25`"):
        predict_files(predictor, [tmp_path / "frames"], tmp_path / "out", save=("video",))
    summary = predict_files(
        predictor, [tmp_path / "frames"], tmp_path / "out", save=("video",), video=VideoOptions(fps=Fraction("29.97"))
    )
    times, masks = read_video(tmp_path / "out/a_mask.mp4")
    assert times == [Fraction(100 * number, 2997) for number in (0, 1, 2, 4)], "the time of the lost frame stays"
    assert np.array_equal(masks, masks_of([bar(number) for number in (0, 1, 2, 10)], predictor))
    (damaged,) = summary.damaged
    assert (damaged["video"]["frames"], damaged["video"]["damaged"]) == (4, 1)


def test_images_and_videos_are_kept_apart(predictor, tmp_path):
    clip, photo = write_video(tmp_path / "in/clip.MP4", frames=2), tmp_path / "in/photo.png"
    Image.fromarray(bar(0)).save(photo)
    out = tmp_path / "out"
    with pytest.raises(DataError, match=r"clip.MP4 is a video and .*photo.png an image: predict them by two calls"):
        predict_files(predictor, [photo, clip], out)
    with pytest.raises(
        ConfigError, match=r"`save=video`: is written for videos and folders of frames, not for .*photo.png, an image"
    ):
        predict_files(predictor, [photo], out, save=("video",))
    with pytest.raises(
        ConfigError, match=r"`save=overlay`: is written for images, not for videos such as .*which have mask"
    ):
        predict_files(predictor, [clip], out, save=("overlay",))
    with pytest.raises(ConfigError, match=r"`save=coco`: is written for images"):
        predict_files(predictor, [clip], out, save=("coco",))
    with pytest.raises(DataError, match=r"in: has both videos and images; give the videos, or a folder of frames"):
        predict_files(predictor, [tmp_path / "in"], out, save=("shares",))
    for options, what in (
        ({"every": 2}, "`every=2`: must be at least 1, and is for videos only"),
        ({"smooth": 1}, "`smooth=1`: must be at least 0 and below 1, and"),
        ({"fps": Fraction(25)}, "`fps=25`: must be above 0, and is for folders of frames only"),
        ({"seconds": 3}, "`seconds=3`: must be above 0, and is for live streams only"),
    ):
        with pytest.raises(ConfigError, match=what):
            predict_files(predictor, [photo], out, video=VideoOptions(**options))
    assert not out.exists()
    assert predict_files(predictor, [tmp_path / "in"], out).skipped == [clip], "without an output that only videos have"
    photo.unlink()
    assert predict_files(predictor, [tmp_path / "in"], tmp_path / "films").images == 1, "a folder of videos"
    assert [path.name for path in (tmp_path / "films").glob("*.mp4")] == ["clip_mask.mp4"]


def test_frames_of_another_size_end_a_video(predictor, tmp_path):
    for number, size in enumerate([(48, 64), (48, 64), (32, 64)]):
        (tmp_path / "f").mkdir(exist_ok=True)
        Image.fromarray(bar(number, *size)).save(tmp_path / f"f/{number}.png")
    options = VideoOptions(fps=Fraction(5))
    (failed,) = predict_files(predictor, [tmp_path / "f"], tmp_path / "out", save=("video",), video=options).failed
    assert "frame 2 and those before have different sizes (64x32 and 64x48)" in failed["error"]
    assert str(tmp_path / "f") in failed["error"]


def test_without_pyav_it_says_what_to_install(predictor, tmp_path, monkeypatch):
    clip = write_video(tmp_path / "clip.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MissingExtra, match=r"predicting videos needs av, which is not installed: pip install 'pyramidseg\[video\]'"
    ):
        predict_files(predictor, [clip], tmp_path / "out")


def test_a_gif_is_an_image_or_a_video(predictor, tmp_path):
    """The ledger does not take the mask of one for that of the other."""
    Image.fromarray(bar(0)).save(tmp_path / "a.gif")
    for save in (("shares",), ("mask",), ("shares",)):
        assert predict_files(predictor, [tmp_path / "a.gif"], tmp_path / "out", save=save).unchanged == 0
    assert len(read_video(tmp_path / "out/a_mask.mp4")[0]) == 1 and (tmp_path / "out/a.png").exists()
