import csv
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from forks import PythonProcess
from pyramidseg.backends import TorchBackend
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError, OutputError
from pyramidseg.base.log import report_progress
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Record
from pyramidseg.evaluation import pair_batches
from pyramidseg.evaluation.scoring import evaluate, score
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.pipeline import decode_ahead
from pyramidseg.predict.tile_planner import TilePlanner
from pyramidseg.predict.tta import TestTimeAugmentation
from support import process_environment

CPU = torch.device("cpu")

SHARD = Path(__file__).with_name("score_shard.py")
_spec = importlib.util.spec_from_file_location("score_shard", SHARD)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture
def records(tmp_path):
    return made.make_records(tmp_path)


def pixels_of(record):
    image, truth = np.array(Image.open(record.image)), np.array(Image.open(record.mask))
    for row in range(truth.shape[0]):
        for column in range(truth.shape[1]):
            if truth[row, column] != 255:
                yield image[row, column].astype(np.float64) / 64, int(truth[row, column])


def test_equals_a_loop_over_all_pixels(records):
    counts, loss, pixels = np.zeros((3, 3), int), 0.0, 0
    for record in records:
        for logits, true in pixels_of(record):
            counts[true, int(logits.argmax())] += 1
            loss += math.log(np.exp(logits).sum()) - logits[true]
            pixels += 1
    scores = made.score_records(records)
    assert scores.confusion.tolist() == counts.tolist()
    assert scores.loss == pytest.approx(loss / pixels, rel=1e-12)
    assert scores.metrics.images == len(records)


def test_scores_single_images_in_the_order_of_the_records(records):
    scores = made.score_records(records)
    assert [entry.record_id for entry in scores.per_image] == [record.id for record in records]
    for record, entry in zip(records, scores.per_image, strict=True):
        hits = [int(logits.argmax()) == true for logits, true in pixels_of(record)]
        assert entry.pixels == len(hits)
        assert math.isnan(entry.pixel_accuracy) if not hits else entry.pixel_accuracy == pytest.approx(np.mean(hits))


def test_unknown_label_names_the_file(records):
    class CustomMasks:
        def read(self, record):
            labels = np.array(Image.open(record.mask))
            if record.id == "image2":
                labels[0, 0] = 200
            return labels

    with pytest.raises(DataError, match=r"mask2\.png: true label 200 is not a known class \(known: 0-2\)"):
        score(made.predict, made.made_dataset(records, CustomMasks()), "val", channels=3, batch_size=2, device=CPU)


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 2), (64, 4)])
def test_reading_threads_do_not_exceed_the_processors(records, monkeypatch, processors, threads):
    started = []

    def recorded(*arguments, threads, **options):
        started.append(threads)
        return decode_ahead(*arguments, threads=threads, **options)

    monkeypatch.setattr(pair_batches, "available_processors", lambda: processors)
    monkeypatch.setattr(pair_batches, "decode_ahead", recorded)
    made.score_records(records)
    assert started == [threads]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_result_does_not_depend_on_the_batch_size(records, batch_size):
    ours, theirs = made.score_records(records, batch_size=batch_size), made.score_records(records)
    assert ours.confusion.tolist() == theirs.confusion.tolist()
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-12)
    assert repr(ours.per_image) == repr(theirs.per_image)


def score_with(predict, records, **options):
    return score(predict, made.made_dataset(records), "val", channels=3, batch_size=2, device=CPU, **options)


def test_batches_are_consecutive_images_of_equal_size(records):
    shapes = []

    def predict(images):
        shapes.append(tuple(images.shape))
        return made.predict(images)

    score_with(predict, records)
    sizes = [(2, 3, 8, 12), (1, 3, 8, 12), (1, 3, 5, 7), (1, 3, 8, 12), (1, 3, 1, 1), (1, 3, 5, 7)]
    assert shapes == sizes


def test_batches_are_bounded_in_pixels(records, monkeypatch):
    monkeypatch.setattr(pair_batches, "BATCH_PIXELS", 2 * 8 * 12 - 1)
    shapes = []
    whole = made.score_records(records)
    bounded = score_with(lambda images: shapes.append(len(images)) or made.predict(images), records)
    assert shapes == [1] * len(records)
    assert torch.equal(bounded.confusion, whole.confusion)


def test_large_images_are_not_decoded_far_ahead(records, monkeypatch):
    monkeypatch.setattr("pyramidseg.base.parallel.AHEAD_PIXELS", 1)
    read = []

    class Watched(ClassMasks):
        def read(self, record):
            read.append(record.id)
            return super().read(record)

    monkeypatch.setattr(pair_batches, "available_processors", lambda: 1)
    options = {"channels": 3, "batch_size": 1, "task": "reading"}
    for taken, _ in enumerate(pair_batches.read_batches(records, Watched.identity(3), **options), start=1):
        assert len(read) <= taken + 3  # the batch waits for the pair after it
    assert taken == len(records)


def test_coarse_logits_are_resized_bilinearly_before_the_argmax(records):
    def coarse(images):
        return F.avg_pool2d(made.predict(images), 2, ceil_mode=True)

    def resized(images):
        return F.interpolate(coarse(images), size=images.shape[-2:], mode="bilinear", align_corners=False)

    assert torch.equal(score_with(coarse, records).confusion, score_with(resized, records).confusion)


@pytest.mark.parametrize("settings", [{}, {"finest_stride": 2}, {"align_corners": True}])
@pytest.mark.parametrize("tta", [False, True])
def test_a_backends_labels_are_the_argmax_of_its_full_size_logits(records, settings, tta):
    torch.manual_seed(0)
    network = {"encoder": "test_resnet", "encoder_weights": "none", "coarsest_stride": 8}
    model = Segmenter(classes=made.CLASSES, pyramid_channels=8, segmentation_channels=8, **network, **settings)
    weight = model.classifier.weight.data.normal_()
    weight -= weight.mean(dim=1, keepdim=True)  # features are positive: else one class would win everywhere
    backend = TorchBackend(model, device="cpu")
    backend = TestTimeAugmentation(backend) if tta else backend
    plain = score_with(lambda images: backend(images), records)
    assert torch.equal(score_with(backend, records).confusion, plain.confusion)
    assert (plain.confusion.sum(dim=0) > 0).sum() > 1  # more than one class was predicted


def test_loss_is_none_without_a_loss_function(records):
    assert score_with(made.predict, records).loss is None


def test_progress_is_reported_for_every_image(records):
    reported = []
    with report_progress(reported.append):
        score_with(made.predict, records)
    assert [(state.done, state.total) for state in reported if not state.finished][-1] == (len(records), len(records))


def test_unknown_mask_value_names_the_file(records):
    Image.fromarray(np.full((5, 7), 9, np.uint8)).save(records[-1].mask)
    with pytest.raises(DataError, match=records[-1].mask.name):
        made.score_records(records)


def test_mask_of_another_size_names_the_file(records):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(records[0].mask)
    with pytest.raises(DataError, match=records[0].mask.name):
        made.score_records(records)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """Made records, and what each of two processes found on the first 7 and on the first one of them."""
    folder = tmp_path_factory.mktemp("shards")
    made.make_records(folder)
    environment = {**process_environment(), "WORLD_SIZE": "2"}
    group = [PythonProcess(SHARD, folder, 7, 1, environment={**environment, "RANK": str(rank)}) for rank in range(2)]
    for process in group:
        with process:
            assert process.wait(300) == 0, process.errors()
    return folder


@pytest.mark.parametrize("count", [7, 1])  # 7 leaves shards of 4 and 3; 1 leaves the second process nothing
def test_two_processes_give_the_same_result_as_one(tmp_path, shared_folder, count):
    alone = json.loads(made.as_json(made.score_records(made.make_records(tmp_path)[:count])))
    for rank in range(2):
        metrics, confusion, per_image, loss = json.loads((shared_folder / f"rank{rank}of{count}.json").read_text())
        assert metrics == alone[0]
        assert confusion == alone[1]
        assert repr(per_image) == repr(alone[2])
        assert loss == pytest.approx(alone[3], rel=1e-12)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Segmenter(
        classes=made.CLASSES, encoder="resnet18", encoder_weights="none", pyramid_channels=8, segmentation_channels=8
    ).eval()


@pytest.fixture
def dataset(records):
    return dataset_from_records(val=records, classes=made.CLASSES)


@pytest.mark.parametrize("tta", [False, True])
def test_evaluate_writes_all_files(tmp_path, model, dataset, tta):
    out = tmp_path / "out"
    scores = evaluate(model, dataset, out=out, device="cpu", tta=tta)
    assert {path.name for path in out.iterdir()} == {"metrics.json", "confusion.csv", "per_image.csv", "report.html"}
    assert json.loads((out / "metrics.json").read_text()) == scores.metrics.to_dict()
    with (out / "confusion.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head[1:] == [row[0] for row in rows] == list(made.CLASSES.names)
    assert [[int(cell) for cell in row[1:]] for row in rows] == scores.confusion.tolist()
    with (out / "per_image.csv").open(newline="") as file:
        images = list(csv.DictReader(file))
    assert [row["image"] for row in images] == [entry.record_id for entry in scores.per_image]
    assert images[3]["miou"] == ""


def test_evaluate_of_a_bundle_equals_the_model_in_memory(tmp_path, model, dataset):
    model.save(tmp_path / "model.safetensors")
    ours = evaluate(tmp_path / "model.safetensors", dataset, device="cpu")
    assert torch.equal(ours.confusion, evaluate(model, dataset, device="cpu").confusion)


@pytest.mark.parametrize(
    ("names", "said"),
    [(["sky", "road"], "2 classes.*model has 3"), (["sky", "car", "tree"], "class 1 is 'car'.*'road'")],
)
def test_evaluate_refuses_a_dataset_of_other_classes(records, model, names, said):
    with pytest.raises(DataError, match=said):
        evaluate(model, dataset_from_records(val=records, classes=Classes.from_names(names)), device="cpu")


def test_evaluate_refuses_to_overwrite_before_it_computes(tmp_path, records, model):
    (tmp_path / "report.html").write_text("of a training run")
    missing = dataset_from_records(val=[Record("x", tmp_path / "x.png")], classes=made.CLASSES)
    with pytest.raises(OutputError, match=r"report\.html"):
        evaluate(model, missing, out=tmp_path, device="cpu")
    assert (tmp_path / "report.html").read_text() == "of a training run"


def test_evaluate_refuses_a_file_as_its_folder(records, model, dataset):
    with pytest.raises(OutputError, match="a folder is needed"):
        evaluate(model, dataset, out=records[0].image, device="cpu")


def test_evaluate_refuses_settings_without_effect_on_a_dataset_from_python(model, dataset):
    with pytest.raises(ConfigError, match=r"records: data\.binary=True: has no effect"):
        evaluate(model, dataset, device="cpu", data=DataConfig(binary=True))


@pytest.mark.parametrize("batch_size", [0, -3])
def test_evaluate_refuses_an_empty_batch(model, dataset, batch_size):
    with pytest.raises(ConfigError, match=f"`batch_size={batch_size}`: must be at least 1"):
        evaluate(model, dataset, device="cpu", batch_size=batch_size)


def test_large_images_are_scored_in_tiles(tmp_path, model):
    """With the whole image in every window's overlap, tiles give what the whole image gives."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (768, 800, 3), np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(rng.integers(0, 3, (768, 800), np.uint8)).save(tmp_path / "mask.png")
    large = dataset_from_records(
        val=[Record("large", tmp_path / "image.png", tmp_path / "mask.png")], classes=made.CLASSES
    )
    windows = []

    class Watched(TorchBackend):
        def coarse_logits(self, images):
            windows.append(tuple(images.shape[-2:]))
            return super().coarse_logits(images)

    whole, tiled = (
        score(
            watched := Watched(model, device="cpu"),
            large,
            "val",
            channels=3,
            batch_size=2,
            device=torch.device("cpu"),
            tile_planner=TilePlanner(watched, tile_px=side),
        )
        for side in ("whole", 704)
    )
    assert windows[0] == (768, 800)
    assert max(windows[1:]) == (704, 704)
    assert (whole.confusion - tiled.confusion).abs().sum() <= 20  # floats decide between equal logits
    assert torch.equal(evaluate(model, large, device="cpu", tile_px=704).confusion, tiled.confusion)
