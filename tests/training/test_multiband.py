"""Training on images other than photographs: bands, depths, nodata, polygons; and what a bundle remembers of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import pyramidseg as ps
from made_geo import TRANSFORM, box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.overrides import full_name, load_config, parse_override
from pyramidseg.data.normalization import measure_normalization
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.decode import read_image
from pyramidseg.training.checkpoint import restore_checkpoint, run_identity
from pyramidseg.training.run_folder import RunFolder
from pyramidseg.training.segmentation_training import plan_segmentation
from support import TINY

SIDE = 64


def write_tiles(folder: Path, *, bands: int, dtype: Any, count: int = 6, offset: float = 0) -> Path:
    """Images of 11 bits in bands far apart, in which roofs are brighter; the western edge is nodata."""
    rng = np.random.default_rng(0)
    for index in range(count):
        place = (0.5, 0.0, TRANSFORM[2] + 0.5 * SIDE * index, 0.0, -0.5, TRANSFORM[5])
        values = rng.normal(300, 30, (SIDE, SIDE, bands)) * np.arange(1, bands + 1)
        left, top = rng.integers(10, 30, 2)
        values[top : top + 24, left : left + 20] += 700
        values = (values + offset).astype(dtype)
        values[:, :5] = -9999 if np.dtype(dtype).kind in "if" else 0
        nodata = -9999 if np.dtype(dtype).kind in "if" else 0
        write_image(folder / "images" / f"{index}.tif", values, transform=place, nodata=nodata)
        roof = polygon(on_map(box(left, top, left + 20, top + 24), place))
        write_geojson(folder / "labels" / f"{index}.geojson", [feature(roof)])
    return folder


def train(data: Path, out: Path, **settings: Any) -> Any:
    config = load_config(overrides={**dict(parse_override(text) for text in TINY), "data.workers": 0})
    return ps.train(data, out=out, config=config, **{"epochs": 1, "batch_size": 2, **settings})


def planned(data: Path, **settings: Any) -> ps.Segmenter:
    """The model that a run would begin with."""
    named = {full_name(key): value for key, value in settings.items()}
    config = load_config(overrides={**dict(parse_override(text) for text in TINY), **named})
    model = plan_segmentation(config, data).model
    assert isinstance(model, ps.Segmenter)
    return model


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_five_bands_of_any_type_train_evaluate_and_predict(tmp_path: Path, dtype: Any) -> None:
    data = write_tiles(tmp_path / "data", bands=5, dtype=dtype)
    run = train(data, tmp_path / "run", in_channels=5, precision="fp32")
    dataset = open_dataset(data, load_config().data)
    expected = measure_normalization(dataset.split("train"), channels=5)
    model = ps.Segmenter.load(run.last)
    assert torch.allclose(model.mean, torch.tensor(expected.mean))
    assert torch.allclose(model.std, torch.tensor(expected.std))
    scores = ps.evaluate(run.last, data)
    assert scores.metrics.miou == pytest.approx(run.history[-1]["val_miou"], abs=1e-5)
    labelled = int(scores.confusion.sum())
    assert labelled == len(dataset.split("val")) * SIDE * (SIDE - 5)  # holes are ignored
    image = dataset.split("val")[0].image
    assert ps.Predictor(run.last).predict(image).labels.shape == (SIDE, SIDE)


def test_bands_that_the_data_names_are_those_of_the_bundle(tmp_path: Path) -> None:
    data = write_tiles(tmp_path / "data", bands=5, dtype=np.uint16)
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({"path": "data", "bands": [4, 1]}))
    run = train(file, tmp_path / "run")
    assert load_config(tmp_path / "run" / "config.yaml").model.channels == (4, 1)
    model = ps.Segmenter.load(run.last)
    assert (model.settings.in_channels, model.settings.input_bands) == (2, (4, 1))
    assert float(model.mean[0] / model.mean[1]) > 2  # the fourth band is the brighter one
    image = data / "images" / "0.tif"
    chosen = read_image(image, channels=(4, 1))
    by_file, by_array = (ps.Predictor(run.last).predict(source).labels for source in (image, chosen))
    assert np.array_equal(by_file, by_array)
    by_python = open_dataset(open_dataset(data, load_config().data), load_config(overrides={"data.bands": [4, 1]}).data)
    assert by_python.bands == (4, 1)
    # Without the file that names the bands, the bundle still knows them.
    assert torch.equal(ps.evaluate(run.last, data).confusion, ps.evaluate(run.last, file).confusion)
    assert planned(data, weights=str(run.last)).settings.input_bands == (4, 1)


def test_bands_and_in_channels_have_to_agree(tmp_path: Path) -> None:
    data = write_tiles(tmp_path / "data", bands=5, dtype=np.uint16)
    with pytest.raises(ConfigError, match=r"data\.bands=\[4, 1\] are 2 channels but model\.in_channels=5"):
        train(data, tmp_path / "run", bands=(4, 1), in_channels=5)
    with pytest.raises(DataError, match=r"has 5 channels, but 3 are requested .*model\.in_channels.*data\.bands"):
        train(data, tmp_path / "run")
    with pytest.raises(DataError, match="has 5 bands, but band 6 is requested"):
        train(data, tmp_path / "run", bands=(1, 6))


def test_a_resumed_run_goes_on_with_the_normalisation_that_it_began_with(tmp_path: Path) -> None:
    data = write_tiles(tmp_path / "data", bands=4, dtype=np.uint16)
    run = train(data, tmp_path / "run", in_channels=4)
    write_tiles(tmp_path / "data", bands=4, dtype=np.uint16, offset=100)  # files of the same names and sizes
    components = plan_segmentation(load_config(run.folder / "config.yaml"), data)
    begun = ps.Segmenter.load(run.last)
    assert not torch.equal(components.model.mean, begun.mean)
    folder = RunFolder(run.folder)
    identity = run_identity(components.config, folder.config, components.task.fingerprint)
    restore_checkpoint(folder, components, identity)
    assert components.ema is not None
    for model in (components.model, components.ema.model):
        assert torch.equal(model.mean, begun.mean)
        assert torch.equal(model.std, begun.std)


def test_fine_tuning_keeps_the_bundles_normalisation_unless_told_otherwise(tmp_path: Path) -> None:
    first = planned(write_tiles(tmp_path / "a", bands=4, dtype=np.uint16), in_channels=4)
    first.save(tmp_path / "first.safetensors")
    other = write_tiles(tmp_path / "b", bands=4, dtype=np.uint16, offset=1000)
    kept = planned(other, weights=str(tmp_path / "first.safetensors"))
    own = planned(other, weights=str(tmp_path / "first.safetensors"), normalization="dataset")
    assert torch.equal(kept.mean, first.mean)
    assert (own.mean > first.mean + 900 / 65535).all()


def test_photographs_keep_the_encoders_normalisation_unless_told_otherwise(scenes: Path) -> None:
    encoder = ps.Segmenter(encoder="test_resnet", encoder_weights="none", num_classes=2).mean
    assert torch.equal(planned(scenes).mean, encoder)
    assert not torch.allclose(planned(scenes, normalization="dataset").mean, encoder, atol=1e-3)
