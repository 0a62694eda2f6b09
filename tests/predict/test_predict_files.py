import json
import os
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_backends import Brightness
from pyramidseg.base.errors import ConfigError, DataError, OutputError
from pyramidseg.base.log import report_progress
from pyramidseg.images.decode import read_image
from pyramidseg.predict.outputs.output_writers import WRITERS, Writer
from pyramidseg.predict.pipeline import stage_threads
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor


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
    """Files without those of the ledger."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if not name.startswith("ledger/")]


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
    assert [entry["image"] for entry in content["images"]] == [str(images / "a.png"), str(images / "deep" / "b.jpg")]
    assert (summary.images, summary.failed, summary.last["image"]) == (2, [], str(images / "deep" / "b.jpg"))


def test_an_unreadable_image_is_recorded_and_the_others_are_done(predictor, images, tmp_path):
    (images / "broken.png").write_bytes(b"no image")
    summary = predict_files(predictor, [images], tmp_path / "out")
    (failed,) = summary.failed
    assert failed["image"] == str(images / "broken.png")
    assert "broken.png" in failed["error"]
    assert files_in(tmp_path / "out") == ["a.png", "deep/b.png", "predictions.json"]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert [set(entry) for entry in entries if "error" in entry] == [{"image", "error"}]


@pytest.mark.skipif(os.name != "posix", reason="other systems refuse longer paths")
@pytest.mark.parametrize(
    ("stem", "save", "too_long"),
    [
        ("x" * 243, ["overlay"], None),
        ("x" * 244, ["overlay"], "overlay"),
        ("x" * 251, ["overlay"], "overlay"),
        ("x" * 251, [], None),
        ("é" * 125, ["color", "overlay"], "color"),
        ("x" * 246, ["overlay", "color"], "overlay"),
    ],
)
def test_an_image_whose_outputs_would_have_too_long_names_is_an_entry(
    predictor, images, tmp_path, stem, save, too_long
):
    image = save_image(images / f"{stem}.png", value=9)
    for _ in range(2):  # the second call finds the others done
        summary = predict_files(predictor, [images], tmp_path / "out", save=save)
        assert summary.images == 3
        assert [entry["image"] for entry in summary.failed] == ([str(image)] if too_long else [])
        ends = {"mask": ".png", "overlay": "_overlay.png", "color": "_color.png"}
        stems = ["a", "deep/b"] if too_long else ["a", "deep/b", stem]
        expected = [f"{name}{ends[output]}" for name in stems for output in ("mask", *save)]
        assert files_in(tmp_path / "out") == sorted([*expected, "predictions.json"])
        for entry in summary.failed:
            assert f"no name as long as that of its {too_long}; rename the image" in entry["error"]
    if too_long:
        image.rename(images / "short.png")
        assert predict_files(predictor, [images], tmp_path / "out", save=save).failed == []
        assert (tmp_path / "out" / "short_overlay.png").is_file()


def test_two_images_with_one_output_are_refused_before_anything_is_computed(predictor, images, tmp_path):
    save_image(images / "a.jpg")
    with pytest.raises(OutputError, match=r"a\.jpg and .*a\.png"):
        predict_files(predictor, [images], tmp_path / "out")
    assert not predictor.backend.batches
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
    assert not predictor.backend.batches


def test_an_input_is_recognised_through_a_link(predictor, images, tmp_path):
    (tmp_path / "out").symlink_to(images)
    with pytest.raises(OutputError, match="would overwrite the input"):
        predict_files(predictor, [images], tmp_path / "out")


def test_a_foreign_file_is_never_overwritten(predictor, images, tmp_path):
    theirs = save_image(tmp_path / "truth" / "a.png")
    before = theirs.read_bytes()
    with pytest.raises(OutputError, match="not written by pyramidseg"):
        predict_files(predictor, [images], theirs.parent)
    assert theirs.read_bytes() == before


def test_a_foreign_summary_is_never_overwritten(predictor, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.json").write_text("[]")
    with pytest.raises(OutputError, match=r"predictions\.json: exists"):
        predict_files(predictor, [images], tmp_path / "out")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: np.savez(path, probabilities=np.zeros((3, 2, 2)), case_id=7),
        lambda path: np.savez(path, np.zeros(3)),
        lambda path: path.write_bytes(b"not an archive"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
    ],
)
def test_a_foreign_archive_is_never_overwritten(predictor, images, tmp_path, write):
    (tmp_path / "out").mkdir()
    theirs = tmp_path / "out" / "a_probabilities.npz"
    write(theirs)
    before = theirs.is_file() and theirs.read_bytes()
    with pytest.raises(OutputError, match=r"a_probabilities\.npz: exists and was not written by pyramidseg"):
        predict_files(predictor, [images], tmp_path / "out", save=("probabilities",))
    assert (theirs.is_file() and theirs.read_bytes()) == before
    assert files_in(tmp_path / "out") == (["a_probabilities.npz"] if theirs.is_file() else [])


def test_foreign_files_are_recognised_for_every_kind_of_output(predictor, images, tmp_path):
    for name, writer in WRITERS.items():
        out = tmp_path / name
        out.mkdir()
        (out / f"a{writer.suffix}").write_bytes(b"theirs")
        with pytest.raises(OutputError, match="not written by pyramidseg"):
            predict_files(predictor, [images / "a.png"], out, save=(name,))


def test_earlier_predictions_are_replaced(predictor, images, tmp_path):
    predict_files(predictor, [images], tmp_path / "out", save=("overlay", "probabilities"))
    save_image(images / "a.png", size=(3, 3), value=255)
    predict_files(predictor, [images], tmp_path / "out", save=("overlay", "probabilities"))
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).tolist() == [[1] * 3] * 3
    with np.load(tmp_path / "out" / "a_probabilities.npz") as archive:
        assert archive["probabilities"].shape == (3, 3, 3)


def test_predictions_within_the_source_are_not_predicted_again(predictor, images):
    for _ in range(2):
        summary = predict_files(predictor, [images], images / "out")
    assert summary.images == 2


def test_an_output_folder_that_is_a_file_is_refused(predictor, images, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        predict_files(predictor, [images], tmp_path / "out")


def test_an_unknown_output_is_refused_with_the_nearest(predictor, images, tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'overlay'"):
        predict_files(predictor, [images], tmp_path / "out", save=("overlays",))


def test_a_source_that_matches_nothing_is_refused(predictor, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        predict_files(predictor, [tmp_path / "nowhere"], tmp_path / "out")


def test_progress_sees_every_image(predictor, images, tmp_path):
    reports = []
    with report_progress(reports.append):
        predict_files(predictor, [images], tmp_path / "out")
    assert [(report.task, report.done, report.total) for report in reports[:3]] == [
        ("predicting", done, 2) for done in range(3)
    ]
    assert reports[-1].finished


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_complete_files_and_the_earlier_summary(images, tmp_path, error):
    class Interrupted(Brightness):
        def coarse_logits(self, images):
            if len(self.batches) == 4:
                raise error
            return super().coarse_logits(images)

    for index in range(8):
        save_image(images / f"c{index}.png")
    out = tmp_path / "out"
    predict_files(Predictor(Brightness()), [images / "a.png"], out)
    before = (out / "predictions.json").read_bytes()
    with pytest.raises(error):
        predict_files(Predictor(Interrupted()), [images], out, batch_size=1)
    assert (out / "predictions.json").read_bytes() == before
    assert not [name for name in files_in(out) if name.endswith(".part")]
    for mask in out.rglob("*.png"):
        with Image.open(mask) as file:
            file.load()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("decode", "write"))]


def test_a_failing_writer_raises_a_one_line_error(predictor, images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "deep").write_text("a file where a folder is needed")
    with pytest.raises(OutputError, match=r"deep.*cannot be written"):
        predict_files(predictor, [images], tmp_path / "out")
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_the_summary_names_tiles(images, tmp_path):
    save_image(images / "large.png", size=(100, 90))
    summary = predict_files(Predictor(Brightness(), tile_px=64, overlap_px=32), [images], tmp_path / "out")
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert summary.tiled == 1
    assert [entry.get("tile_px") for entry in entries] == [None, None, 64]
    mask = np.asarray(Image.open(tmp_path / "out" / "large.png"))
    assert mask.shape == (90, 100)
    assert mask[:45].max() == 0 and mask[45:].min() == 1


def test_written_files_have_the_permissions_that_the_umask_leaves(predictor, images, tmp_path):
    predict_files(predictor, [images], tmp_path / "out")
    (tmp_path / "plain").touch()
    for path in (tmp_path / "out").rglob("*.*"):
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_only_failed_entries_are_kept_in_memory(predictor, images, tmp_path):
    """The summary object of many images is as small as that of a few: entries go to the file."""
    for index in range(40):
        save_image(images / f"c{index:02}.png")
    summary = predict_files(predictor, [images], tmp_path / "out", batch_size=3)
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert summary.images == len(entries) == 42
    assert [Path(entry["image"]).name for entry in entries[:3]] == ["a.png", "c00.png", "c01.png"]
    assert vars(summary).keys() == {
        *("out", "images", "tiled", "failed", "damaged", "last", "polygons", "unchanged", "skipped")
    }
    assert summary.failed == []


def test_four_hundred_files_take_no_more_memory_than_forty(tmp_path, monkeypatch):
    """Counts images and label maps alive at the same time, by weak references."""
    references, most, one_at_a_time = [], 0, threading.Lock()

    def watch(array):
        nonlocal most
        with one_at_a_time:
            references[:] = [reference for reference in references if reference() is not None]
            references.append(weakref.ref(array))
            most = max(most, len(references))

    def read(path, **options):
        image = read_image(path, **options)
        watch(image)
        return image

    def write(path, segmentation, image):
        watch(segmentation.labels)
        mask.write(path, segmentation, image)

    def most_alive(count):
        nonlocal most
        most = 0
        for index in range(count):
            save_image(tmp_path / f"{count}" / f"{index:03}.png", size=(4, 4 + index % 3))
        predict_files(Predictor(Brightness()), [tmp_path / f"{count}"], tmp_path / "out" / f"{count}", batch_size=2)
        return most

    mask = WRITERS["mask"]
    monkeypatch.setitem(WRITERS, "mask", Writer(mask.suffix, write))
    monkeypatch.setattr("pyramidseg.predict.input_images.read_image", read)
    writers = max(2, stage_threads())
    bound = 2 * (2 * 2 + 4 * 2 + 2 * 2 + 2 * writers)  # read ahead, waiting for their size, in progress, to be written
    assert most_alive(40) <= bound
    assert most_alive(400) <= bound
