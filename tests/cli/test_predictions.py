"""predict on the same folder again, in shards, and predictions merge, by the command line."""

import json

import pytest

from campaigns.made_inputs import make_images, make_model
from pyramidseg.cli.main import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "m.safetensors")


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_a_second_call_continues_and_says_so(model, tmp_path, capsys):
    images, out = make_images(tmp_path / "images", 3), tmp_path / "out"
    assert run("predict", model, images, "--out", out) == 0
    assert "--overwrite" not in capsys.readouterr().out
    (images / "0/0002.png").unlink()
    make_images(tmp_path / "images/more", 1)
    assert run("predict", model, images, "--out", out) == 0
    said = capsys.readouterr().out
    assert "2 of them by an earlier call, and unchanged; --overwrite predicts all images again" in said
    assert "3 of 3 images predicted" in said
    assert run("predict", model, images, "--out", out, "--overwrite") == 0
    assert "earlier call" not in capsys.readouterr().out


def test_shards_then_merge_as_advised(model, tmp_path, capsys):
    images, out = make_images(tmp_path / "images", 8), tmp_path / "out put"
    (images / "bad.png").write_bytes(b"x")
    statuses = [run("predict", model, images, "--out", out, "--shard", f"{number}/2") for number in (1, 2)]
    assert sorted(statuses) == [0, 3]
    said = capsys.readouterr().out
    assert f"when all parts are done: pyramidseg predictions merge '{out}'" in said
    assert run("predictions", "merge", out) == 3
    assert "8 of 9 images predicted" in capsys.readouterr().out
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 9


@pytest.mark.parametrize("shard", ["0/2", "3/2", "x"])
def test_nonsense_shards_end_with_status_2(model, tmp_path, capsys, shard):
    images = make_images(tmp_path / "images", 1)
    assert run("predict", model, images, "--out", tmp_path / "out", "--shard", shard) == 2
    assert f"--shard {shard}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_merging_nothing_ends_with_status_2(tmp_path, capsys):
    assert run("predictions", "merge", tmp_path) == 2
    assert "holds no ledger of predictions" in capsys.readouterr().err
