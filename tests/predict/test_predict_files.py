import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyramidseg.classes import Classes
from pyramidseg.errors import ConfigError, DataError, OutputError
from pyramidseg.predict.files import predict_files
from pyramidseg.predict.predictor import Predictor


class Brightness:
    """A backend that finds class 1 where the first channel is above 127."""

    name = "brightness"
    classes = Classes.named(["dark", "bright", "absent"])
    in_channels = 3
    calls = 0

    def __call__(self, images):
        self.calls += 1
        bright = images[:, :1].float() / 64 - 2
        return torch.cat((-bright, bright, torch.full_like(bright, -9)), dim=1)


@pytest.fixture
def predictor():
    return Predictor(Brightness())


def save_image(path, size=(8, 6), value=0):
    """An image whose lower half is white."""
    pixels = np.full((size[1], size[0], 3), value, np.uint8)
    pixels[size[1] // 2 :] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def images(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    save_image(tmp_path / "images" / "deep" / "b.jpg", size=(11, 4))
    return tmp_path / "images"


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_masks_mirror_the_folder_at_the_images_own_size(predictor, images, tmp_path):
    predict_files(predictor, [images], tmp_path / "out")
    assert files_in(tmp_path / "out") == ["a.png", "deep/b.png", "predictions.json"]
    mask = np.asarray(Image.open(tmp_path / "out" / "deep" / "b.png"))
    assert mask.shape == (4, 11)
    assert mask[:2].max() == 0 and mask[2:].min() == 1


def test_further_outputs_are_written_on_request(predictor, images, tmp_path):
    predict_files(predictor, [images / "a.png"], tmp_path / "out", save=("overlay", "probabilities", "overlay"))
    assert files_in(tmp_path / "out") == ["a.png", "a_overlay.png", "a_probabilities.npz", "predictions.json"]


def test_the_summary_lists_images_outputs_and_classes_found(predictor, images, tmp_path):
    summary = predict_files(predictor, [images], tmp_path / "out")
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["classes"] == ["dark", "bright", "absent"]
    assert content["images"][0] == {
        "image": str(images / "a.png"),
        "outputs": {"mask": "a.png"},
        "height": 6,
        "width": 8,
        "classes": {"dark": 0.5, "bright": 0.5},
    }
    assert [entry.image for entry in summary.predictions] == [images / "a.png", images / "deep" / "b.jpg"]


def test_an_unreadable_image_is_recorded_and_the_others_are_done(predictor, images, tmp_path):
    (images / "broken.png").write_bytes(b"no image")
    summary = predict_files(predictor, [images], tmp_path / "out")
    (failed,) = summary.failed
    assert failed.image == images / "broken.png"
    assert "broken.png" in failed.error
    assert files_in(tmp_path / "out") == ["a.png", "deep/b.png", "predictions.json"]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert [set(entry) for entry in entries if "error" in entry] == [{"image", "error"}]


def test_two_images_with_one_output_are_refused_before_anything_is_computed(predictor, images, tmp_path):
    save_image(images / "a.jpg")
    with pytest.raises(OutputError, match=r"a\.jpg and .*a\.png"):
        predict_files(predictor, [images], tmp_path / "out")
    assert predictor.backend.calls == 0
    assert not (tmp_path / "out").exists()


def test_outputs_of_different_kinds_may_not_collide_either(predictor, images, tmp_path):
    save_image(images / "a_overlay.jpg")
    with pytest.raises(OutputError, match="would both be written"):
        predict_files(predictor, [images], tmp_path / "out", save=("overlay",))


def test_an_input_is_never_overwritten(predictor, images):
    before = (images / "a.png").read_bytes()
    with pytest.raises(OutputError, match="would overwrite the input"):
        predict_files(predictor, [images], images)
    assert (images / "a.png").read_bytes() == before
    assert predictor.backend.calls == 0


def test_an_input_is_recognised_through_a_link(predictor, images, tmp_path):
    (tmp_path / "out").symlink_to(images)
    with pytest.raises(OutputError, match="would overwrite the input"):
        predict_files(predictor, [images], tmp_path / "out")


def test_a_foreign_file_in_the_way_is_never_overwritten(predictor, images, tmp_path):
    theirs = save_image(tmp_path / "truth" / "a.png")
    before = theirs.read_bytes()
    with pytest.raises(OutputError, match="not written by pyramidseg"):
        predict_files(predictor, [images], theirs.parent)
    assert theirs.read_bytes() == before


def test_a_foreign_summary_in_the_way_is_never_overwritten(predictor, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text("[]")
    with pytest.raises(OutputError, match=r"predictions\.json: exists"):
        predict_files(predictor, [images], tmp_path / "out")


def test_earlier_predictions_are_replaced(predictor, images, tmp_path):
    predict_files(predictor, [images], tmp_path / "out", save=("overlay",))
    save_image(images / "a.png", size=(3, 3), value=255)
    predict_files(predictor, [images], tmp_path / "out", save=("overlay",))
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).tolist() == [[1] * 3] * 3


def test_predictions_within_the_source_are_not_predicted_again(predictor, images):
    for _ in range(2):
        summary = predict_files(predictor, [images], images / "out")
    assert len(summary.predictions) == 2


def test_an_output_folder_that_is_a_file_is_refused(predictor, images, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="not a folder"):
        predict_files(predictor, [images], tmp_path / "out")


def test_an_unknown_output_is_refused_with_the_nearest(predictor, images, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'overlay'"):
        predict_files(predictor, [images], tmp_path / "out", save=("overlays",))


def test_a_source_that_matches_nothing_is_refused(predictor, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        predict_files(predictor, [tmp_path / "nowhere"], tmp_path / "out")


def test_progress_sees_every_image(predictor, images, tmp_path):
    seen = []

    def track(items, *, total, what):
        for item in items:
            seen.append((total, what))
            yield item

    predict_files(predictor, [images], tmp_path / "out", track=track)
    assert seen == [(2, "predicting")] * 2
