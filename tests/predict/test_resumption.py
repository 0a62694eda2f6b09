"""A second call on the same folder: what is done again, and what is not."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from made_backends import Brightness
from pyramidseg.base.errors import ConfigError, DataError, MissingExtra, OutputError
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.resumption import Shard, parse_shard
from pyramidseg.predict.summary_file import merge_predictions


def save_image(path, value=0, size=(8, 6)):
    pixels = np.full((size[1], size[0], 3), value, np.uint8)
    pixels[size[1] // 2 :] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def images(tmp_path):
    for name in ("a.png", "b.png", "deep/c.png", "deep/d.png"):
        save_image(tmp_path / "images" / name)
    return tmp_path / "images"


class Numbered(Brightness):
    """A model with a digest of its own."""

    def __init__(self, digest="1"):
        super().__init__()
        self.digest = digest * 32


def predict(images, out, backend=None, *, tta=False, tile_px="auto", **options):
    """Number of images that were computed, and the summary."""
    backend = backend or Numbered()
    summary = predict_files(Predictor(backend, tta=tta, tile_px=tile_px), [images], out, batch_size=1, **options)
    return len(backend.batches), summary


def merged(out):
    summary = merge_predictions(out)
    return summary.images, len(summary.failed)


def contents(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.parent.name != "ledger"
    }


def lines(out):
    return [json.loads(line) for file in sorted((out / "ledger").iterdir()) for line in file.read_text().splitlines()]


def test_a_line_has_everything_about_its_image(images, tmp_path):
    predict(images, tmp_path / "out", save=("overlay",))
    model, line = lines(tmp_path / "out")[:2]
    assert model == {"key": f"//model/{'1' * 32}", "fingerprint": "", "classes": ["dark", "bright", "absent"]}
    state = (images / "a.png").stat()
    written = {name: (tmp_path / "out" / file) for name, file in line["outputs"].items()}
    assert line["key"] == "a.png"
    assert line["image"] == str(images / "a.png")
    assert (line["size"], line["stamp"]) == (state.st_size, str(state.st_mtime_ns))
    assert line["classes"] == {"dark": 0.5, "bright": 0.5}
    assert line["model"] == "1" * 32 and len(line["settings"]) == 32
    assert 0 < line["seconds"] < 60
    assert set(written) == {"mask", "overlay"}
    for name, path in written.items():
        assert line["files"][name][:2] == [path.stat().st_size, str(path.stat().st_mtime_ns)]
        assert len(line["files"][name][2]) == 32


def test_a_second_call_computes_nothing_and_writes_the_same(images, tmp_path):
    out = tmp_path / "out"
    predict(images, out)
    before, ledgers = contents(out), list((out / "ledger").iterdir())
    computed, summary = predict(images, out)
    assert (computed, summary.images, summary.unchanged) == (0, 4, 4)
    assert contents(out) == before
    assert list((out / "ledger").iterdir()) == ledgers


def test_new_images_are_added(images, tmp_path):
    out = tmp_path / "out"
    predict(images, out)
    save_image(images / "aa.png")
    computed, summary = predict(images, out)
    assert (computed, summary.unchanged) == (1, 4)
    entries = json.loads((out / "predictions.json").read_text())["images"]
    assert [entry["outputs"]["mask"] for entry in entries] == ["a.png", "aa.png", "b.png", "deep/c.png", "deep/d.png"]


@pytest.mark.parametrize(
    "change",
    [
        lambda images, out: save_image(images / "b.png", value=255),
        lambda images, out: os.utime(images / "b.png", ns=(1, 1)),
        lambda images, out: (out / "b.png").unlink(),
        lambda images, out: (out / "b.png").write_bytes((out / "b.png").read_bytes()[:-5]),
        lambda images, out: (out / "b.png").write_bytes((out / "a.png").read_bytes()[:-1] + b"x"),
    ],
    ids=["source", "source time", "missing", "truncated", "one byte"],
)
def test_only_what_changed_is_done_again(images, tmp_path, change):
    out = tmp_path / "out"
    predict(images, out)
    wanted = np.asarray(Image.open(out / "a.png")).tolist()
    change(images, out)
    computed, summary = predict(images, out)
    assert (computed, summary.unchanged) == (1, 3)
    mask = np.asarray(Image.open(out / "b.png"))
    assert mask.shape == (6, 8)
    assert (mask.tolist() == wanted) or (mask == 1).all()
    assert predict(images, out)[0] == 0


def test_a_copied_output_folder_is_recognised_by_its_content(images, tmp_path):
    out = tmp_path / "out"
    predict(images, out)
    for path in out.rglob("*.png"):
        os.utime(path)
    assert predict(images, out)[0] == 0


def test_another_model_predicts_again_with_a_message(images, tmp_path, caplog):
    out = tmp_path / "out"
    predict(images, out)
    with caplog.at_level("INFO"):
        assert predict(images, out, Numbered("2"))[0] == 4
    assert "another model or other settings: 4" in caplog.text
    assert predict(images, out, Numbered("2"))[0] == 0


def test_other_settings_predict_again(images, tmp_path):
    out = tmp_path / "out"
    predict(images, out)
    assert predict(images, out, tta=True)[0] > 4
    assert predict(images, out, tile_px=64)[0] == 4
    assert predict(images, out, tile_px=64)[0] == 0


def test_further_outputs_are_added_and_fewer_are_not_missed(images, tmp_path):
    out = tmp_path / "out"
    predict(images, out)
    assert predict(images, out, save=("overlay",))[0] == 4
    assert predict(images, out)[0] == 0
    (out / "a_overlay.png").unlink()
    assert predict(images, out)[0] == 0
    assert predict(images, out, save=("overlay",))[0] == 1


def test_overwrite_predicts_everything_again(images, tmp_path):
    predict(images, tmp_path / "out")
    assert predict(images, tmp_path / "out", overwrite=True)[0] == 4


def test_failed_images_are_tried_again(images, tmp_path):
    out = tmp_path / "out"
    (images / "bad.png").write_bytes(b"no image")
    for _ in range(3):
        summary = predict(images, out)[1]
        assert len(summary.failed) == 1
    save_image(images / "bad.png")
    computed, summary = predict(images, out)
    assert (computed, summary.failed) == (1, [])


def test_an_image_of_another_folder_with_equal_name_size_and_time_is_predicted(images, tmp_path):
    """Frames of two sequences can differ in nothing but their content."""
    first, second = save_image(tmp_path / "1" / "f.bmp"), save_image(tmp_path / "2" / "f.bmp", value=255)
    for path in (first, second):
        os.utime(path, ns=(10**18, 10**18))
    assert first.stat().st_size == second.stat().st_size
    for path in (first, second):
        assert predict(path, tmp_path / "out")[0] == 1
    assert np.asarray(Image.open(tmp_path / "out" / "f.png")).min() == 1


def test_an_output_that_was_edited_by_hand_is_not_overwritten(images, tmp_path):
    out = tmp_path / "out"
    predict(images, out)
    edited = save_image(out / "a.png")
    before = edited.read_bytes()
    with pytest.raises(OutputError, match=r"a\.png: exists and was not written by pyramidseg"):
        predict(images, out)
    assert edited.read_bytes() == before


def test_an_interrupted_call_goes_on(images, tmp_path):
    class Interrupted(Numbered):
        def coarse_logits(self, images):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().coarse_logits(images)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(images, out, Interrupted())
    held = sum("image" in line for line in lines(out)) if (out / "ledger").exists() else 0
    assert predict(images, out)[0] == 4 - held
    predict(images, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_the_leftovers_of_a_killed_process_are_removed(images, tmp_path):
    left = tmp_path / "out" / "deep" / ".c.png.0123abcd.part"
    left.mkdir(parents=True)
    (left / "content.part").write_bytes(b"half")
    predict(images, tmp_path / "out")
    assert not left.exists()


# Shards and merging.


def test_shards_divide_the_images_and_do_not_move_when_files_are_added():
    names = [f"{index % 7}/{index}.jpg" for index in range(4000)]
    shards = [[name for name in names if Shard(number, 16).has(name)] for number in range(1, 17)]
    assert sorted(name for part in shards for name in part) == sorted(names)
    assert all(190 < len(part) < 310 for part in shards)
    assert Shard(1, 1).has("any")
    assert [number for number in range(1, 17) if Shard(number, 16).has("street/0001.jpg")] == [16]


@pytest.mark.parametrize("text", ["", "3", "3/", "/4", "0/4", "5/4", "1/0", "-1/4", "a/b", "1.5/2", "1/2/3", "²/4"])
def test_nonsense_shards_are_refused(text):
    with pytest.raises(ConfigError, match="shard="):
        parse_shard(text)


def test_shards_share_a_folder_and_merging_lists_the_same_as_one_call(images, tmp_path):
    for index in range(12):
        save_image(images / f"e{index}.png", value=20 * index)
    (images / "bad.png").write_bytes(b"no image")
    predict(images, tmp_path / "whole")
    out = tmp_path / "out"
    computed = [predict(images, out, shard=f"{number}/3")[0] for number in (3, 1, 2)]
    assert sum(computed) == 16 and all(computed)
    assert not (out / "predictions.json").exists()
    assert merged(out) == (17, 1)
    assert contents(out) == contents(tmp_path / "whole")
    assert predict(images, out)[0] == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_a_shard_without_images_is_done(tmp_path):
    image = save_image(tmp_path / "a.png")
    own = next(number for number in range(1, 10) if Shard(number, 9).has("a.png"))
    summary = predict(image, tmp_path / "out", shard=f"{own % 9 + 1}/9")[1]
    assert (summary.images, summary.failed) == (0, [])


def test_merging_lists_all_calls(images, tmp_path):
    out = tmp_path / "out"
    predict(images / "deep", out)
    predict(images / "a.png", out)
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 1
    assert merge_predictions(out).images == 3
    content = json.loads((out / "predictions.json").read_text())
    assert content["classes"] == ["dark", "bright", "absent"]
    assert [entry["outputs"]["mask"] for entry in content["images"]] == ["a.png", "c.png", "d.png"]


def test_merging_several_models_needs_a_choice(images, tmp_path):
    out = tmp_path / "out"
    predict(images / "deep", out, Numbered("1"))
    predict(images / "a.png", out, Numbered("2"))
    with pytest.raises(ConfigError, match=r"several models: 11111111 \(2 images\), 22222222 \(1 images\)") as caught:
        merge_predictions(out)
    assert "`model='11111111'`" in str(caught.value)
    assert merge_predictions(out, model="11111111").images == 2
    with pytest.raises(ConfigError, match="no such model"):
        merge_predictions(out, model="3")


def test_merging_a_folder_without_a_ledger_is_refused(tmp_path):
    with pytest.raises(DataError, match="no ledger"):
        merge_predictions(tmp_path)


def test_parquet_without_pyarrow_names_the_extra(images, tmp_path, monkeypatch):
    predict(images, tmp_path / "out")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pyramidseg\[parquet\]"):
        merge_predictions(tmp_path / "out", parquet=True)
