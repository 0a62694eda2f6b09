"""Bundles with a right checksum and content that this version cannot use: one line at every door."""

import json

import pytest
import torch

from pyramidseg.base.config import Config, ModelConfig
from pyramidseg.base.errors import WeightsError
from pyramidseg.cli.main import main
from pyramidseg.model.bundle import read_description
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.tensor_files import read_verified, write_tensors
from pyramidseg.studies.benchmark_model import DEFAULT_SIZE, default_size
from pyramidseg.training.initial_weights import adopt_bundle_settings

KIND = "pyramidseg bundle"
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "model.safetensors"
    torch.manual_seed(0)
    settings = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 8}
    Segmenter(**settings, segmentation_channels=8, num_classes=2).save(path)
    return path


def rewrite(bundle, path, **metadata):
    """The bundle with other metadata and a right checksum; None removes an entry."""
    tensors, stored = read_verified(bundle, kind=KIND)
    write_tensors(path, tensors, {key: value for key, value in {**stored, **metadata}.items() if value is not None})
    return path


def changed(bundle, name, **content):
    return json.dumps({**json.loads(read_verified(bundle, kind=KIND)[1][name]), **content})


def unexpected(bundle):
    """Metadata that no bundle of ours has."""
    return [
        *({key: None} for key in ("model", "classes", "encoder_source", "facts")),
        *({key: text} for key in ("model", "classes", "encoder_source", "facts") for text in ("{", "3", "[]", DEEP)),
        *({key: f'{{"names": {DEEP}}}'} for key in ("model", "classes", "encoder_source", "facts")),
        {"model": changed(bundle, "model", encoder=3)},
        {"model": changed(bundle, "model", pyramid_channels=-1)},
        {"model": changed(bundle, "model", pyramid_channels=1e400)},
        {"model": changed(bundle, "model", in_channels=4)},
        {"classes": changed(bundle, "classes", names=["a"])},
        {"classes": changed(bundle, "classes", names=3)},
        {"classes": changed(bundle, "classes", colors=[[1, 2], [3, 4]])},
        {"classes": changed(bundle, "classes", colors=None)},
        {"classes": "{}"},
        {"encoder_source": changed(bundle, "encoder_source", mean="red")},
        {"encoder_source": changed(bundle, "encoder_source", mean=[0.5])},
        {"encoder_source": changed(bundle, "encoder_source", kind="magic")},
        {"encoder_source": changed(bundle, "encoder_source", more=1)},
    ]


def test_each_is_one_line_that_names_file_and_versions(bundle, tmp_path):
    for number, metadata in enumerate(unexpected(bundle)):
        path = rewrite(bundle, tmp_path / f"{number}.safetensors", **metadata)
        for read in (Segmenter.load, read_description):
            with pytest.raises(WeightsError, match=rf"^.*/{number}\.safetensors: a bundle of .* cannot read") as error:
                read(path)
            assert "\n" not in str(error.value) and len(str(error.value)) < 700, metadata


def test_a_network_that_does_not_exist_is_refused_in_one_line(bundle, tmp_path):
    path = rewrite(bundle, tmp_path / "odd.safetensors", model=changed(bundle, "model", encoder="resnet\n" * 500))
    with pytest.raises(WeightsError, match=r"odd\.safetensors: a bundle of .* cannot read") as error:
        Segmenter.load(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


@pytest.mark.parametrize("text", ["3", DEEP, '{"encoder": 3}'])
def test_so_is_fine_tuning_from_it(bundle, tmp_path, text):
    path = rewrite(bundle, tmp_path / "odd.safetensors", model=text)
    with pytest.raises(WeightsError, match=r"odd\.safetensors: a bundle of .* cannot read"):
        adopt_bundle_settings(Config(model=ModelConfig(weights=str(path))))


@pytest.mark.parametrize("command", ["describe", "predict", "evaluate", "export", "benchmark"])
def test_so_are_the_commands(bundle, tmp_path, command, capsys):
    path = rewrite(bundle, tmp_path / "odd.safetensors", facts=DEEP)
    arguments = {"predict": [str(tmp_path), "--out", str(tmp_path / "out")], "evaluate": [str(tmp_path)]}
    arguments["export"] = ["--format", "torch"]
    assert main([command, str(path), *arguments.get(command, [])]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "nested too deeply" in captured.err


FACTS = ['{"metrics": 3}', '{"metrics": {"iou": 1}}', '{"imported": "yes"}', '{"crop": "wide"}', '{"crop": [0, 64]}']


@pytest.mark.parametrize("facts", FACTS)
def test_facts_of_any_content_are_allowed(bundle, tmp_path, facts, capsys):
    """`Segmenter.save` stores whatever it is given."""
    path = rewrite(bundle, tmp_path / "own.safetensors", facts=facts)
    assert main(["describe", str(path)]) == 0
    assert "classes: class 0, class 1" in capsys.readouterr().out
    assert default_size(path) == DEFAULT_SIZE


def test_the_known_facts_are_shown(bundle, tmp_path, capsys):
    facts = {"metrics": {"miou": 0.5}, "split": "val", "epoch": 3, "crop": [64, 96]}
    path = rewrite(bundle, tmp_path / "own.safetensors", facts=json.dumps(facts))
    assert main(["describe", str(path)]) == 0
    assert "mIoU 0.5000 on val, epoch 3" in capsys.readouterr().out
    assert default_size(path) == (64, 96)
