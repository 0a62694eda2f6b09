import math

import numpy as np
import pytest
import torch

from pyramidseg.base.classes import Classes
from pyramidseg.export import samples
from pyramidseg.export.parity import CLEAR_MARGIN, AgreementSums, Parity
from pyramidseg.export.samples import default_dtype, synthetic_samples
from pyramidseg.model.segmenter import Segmenter

CLASSES = Classes.unnamed(4)


def logits(seed, *, scale=1.0, size=(2, 4, 9, 11)):
    return scale * torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def outcome(comparison, precision="fp32", latency_ms=(2.0, 1.0)):
    return comparison.result(
        precision=precision,
        runtime="r",
        images="i",
        pieces_agreement=1.0,
        latency_ms=latency_ms,
        latency_against="torch fp32 on cpu",
        latency_size=(9, 11),
    )


def compared(expected, got, truth=None, *, precision="fp32", classes=CLASSES):
    comparison = AgreementSums(classes)
    comparison.add(expected, got, truth)
    return outcome(comparison, precision)


def parity(precision="fp32", **figures):
    """A report that is within the tolerance but for `figures`."""
    perfect = {
        "runtime": "r", "images": "i", "pixels": 10, "agreement": 1.0, "clear": 0.9, "clear_agreement": 1.0,
        "pieces_agreement": 1.0,
        "largest_difference": 0.0, "deviation": 1.0, "miou": None, "latency_ms": (2.0, 1.0), "latency_size": (4, 4),
        "latency_against": "torch fp32 on cuda:1",
    }  # fmt: skip
    return Parity(precision=precision, **{**perfect, **figures})


def test_shares_and_difference_are_those_of_a_loop():
    expected = logits(0)
    got = expected + logits(1, scale=0.3)
    same, clear, both = 0, 0, 0
    for image, other in zip(expected.numpy(), got.numpy(), strict=True):
        for y in range(9):
            for x in range(11):
                ordered = np.sort(image[:, y, x])
                keeps = image[:, y, x].argmax() == other[:, y, x].argmax()
                is_clear = ordered[-1] - ordered[-2] >= CLEAR_MARGIN * image.std()
                same, clear, both = same + keeps, clear + is_clear, both + (keeps and is_clear)
    found = compared(expected, got)
    assert found.pixels == 2 * 9 * 11
    assert found.agreement == same / found.pixels
    assert found.clear == clear / found.pixels
    assert found.clear_agreement == both / clear
    assert found.largest_difference == float((expected - got).abs().max())
    assert math.isclose(found.deviation, float(expected.numpy().astype(float).std()), rel_tol=1e-9)
    assert 0 < found.agreement < found.clear_agreement < 1


def test_batches_add_up():
    whole, parts = AgreementSums(CLASSES), AgreementSums(CLASSES)
    truth = torch.randint(0, 4, (2, 9, 11), dtype=torch.uint8)
    whole.add(logits(0), logits(1), truth)
    for index in range(2):
        parts.add(logits(0)[index : index + 1], logits(1)[index : index + 1], truth[index : index + 1])
    assert outcome(whole) == outcome(parts)


def test_miou_is_that_of_each_against_the_truth():
    from sklearn.metrics import jaccard_score

    truth = torch.randint(0, 4, (2, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    found = compared(logits(0), logits(1), truth)
    expected = [jaccard_score(truth.ravel(), logits(seed).argmax(1).ravel(), average="macro") for seed in (0, 1)]
    assert found.miou == pytest.approx(expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_agree_with_nothing(value):
    got = logits(0)
    got[0, :, 3] = value
    found = compared(logits(0), got, torch.zeros(2, 9, 11, dtype=torch.uint8))
    assert found.agreement == 1 - 11 / found.pixels
    assert found.largest_difference == math.inf
    assert found.findings()
    assert found.to_dict()["largest_difference"] is None


def test_one_class_is_always_clear():
    found = compared(logits(0, size=(1, 1, 3, 3)), logits(1, size=(1, 1, 3, 3)), classes=Classes.unnamed(1))
    assert (found.agreement, found.clear) == (1, 1)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (parity(), None),
        (parity(agreement=0.9999, clear_agreement=0.5), None),
        (parity(agreement=0.99989), "99.9890 % of the pixels keep their label, 99.99% are needed"),
        (parity(agreement=math.nan), "none of the pixels"),
        (parity(miou=(0.5, 0.4)), None),
        (parity("fp16", agreement=0.5), None),
        (parity("fp16", clear_agreement=0.999), None),
        (parity("bf16", clear_agreement=0.9989), "99.8900 % of the clear pixels keep their label, 99.9% are needed"),
        (parity("bf16", clear=0.0, clear_agreement=math.nan, agreement=1.0), None),
        (parity("bf16", clear=0.0, clear_agreement=math.nan, agreement=0.5), "50.0000 % of the clear pixels"),
        (parity(pieces_agreement=math.nan), None),
        (parity(pieces_agreement=0.9989), "99.8900 % of the clear pixels of odd sizes and batches keep their label"),
        (parity("fp16", miou=(0.5, 0.4985)), None),
        (parity("fp16", miou=(0.5, 0.4979)), "mIoU goes from 0.5000 to 0.4979"),
        (parity("fp16", miou=(0.5, 0.5021)), "mIoU goes from 0.5000 to 0.5021"),
        (parity("fp16", miou=(0.5, math.nan)), "mIoU goes"),
        (parity("fp16", miou=(math.nan, math.nan)), None),
    ],
)
def test_the_tolerance_of_each_precision(report, words):
    found = report.findings()
    assert report.to_dict()["passed"] is (words is None)
    if words is None:
        assert found == ()
    else:
        assert words in "; ".join(found)


def test_the_table_shows_every_figure():
    text = parity("fp16", miou=(0.5, 0.501), latency_ms=(20.0, 10.5)).table()
    for words in ("same label where clear", "100.0000 %", "mIoU", "+0.0010", "10.5 ms"):
        assert words in text
    assert "torch fp32 on cuda:1 20.0 ms, 4x4" in text


def model_with(mean, std, channels=3):
    model = Segmenter(num_classes=2, encoder="test_resnet", encoder_weights="none", in_channels=channels)
    model.set_normalization((mean,) * channels, (std,) * channels)
    return model


def test_models_of_pictures_as_their_encoder_saw_them_take_bytes():
    model = Segmenter(num_classes=2, encoder="test_resnet", encoder_weights="none")
    assert default_dtype(model) == "uint8"


@pytest.mark.parametrize("mean", [0.4, 0.02, 0.0, 900.0, -3.0])
def test_models_with_their_datasets_own_mean_take_floats(mean):
    assert default_dtype(model_with(mean, 0.1)) == "float32"


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint16", 3), ("float32", 5)])
def test_made_images_have_the_models_channels_and_units(dtype, channels):
    model = model_with(900.0, 200.0, channels) if dtype == "float32" else model_with(0.45, 0.225, channels)
    samples = synthetic_samples(model, dtype)
    batches = [images for images, truth in samples.whole()]
    assert sum(len(images) for images in batches) == 4
    for images in (*batches, *samples.crops):
        assert images.shape[1] == channels
        assert str(images.dtype) == f"torch.{dtype}"
    normalised = model.normalize(batches[0])
    assert abs(float(normalised.mean())) < 1
    assert 0.3 < float(normalised.std()) < 3


def test_crops_have_odd_sizes_down_to_a_pixel():
    sizes = {tuple(crop.shape[-2:]) for crop in synthetic_samples(model_with(0.4, 0.2), "uint8").crops}
    assert (1, 1) in sizes
    assert sum(height % 32 != 0 and width % 32 != 0 for height, width in sizes) >= 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_crops_end_with_a_batch_of_images_that_differ(dtype):
    samples = synthetic_samples(model_with(0.4, 0.2), dtype)
    batch = samples.crops[-1].double()
    assert len(batch) == 3
    assert not any(torch.equal(batch[one], batch[other]) for one, other in ((0, 1), (0, 2), (1, 2)))
    assert str(samples) == "4 synthetic scenes, 6 crops of odd sizes and a batch of 3"


def test_large_images_are_compared_in_windows_that_cover_them():
    images = torch.randint(0, 256, (1, 3, 70, 33), dtype=torch.uint8)
    windows = list(samples.windows(images, images[:, 0], 32))
    assert [tuple(labels.shape[1:]) for _, labels in windows] == [(32, 32), (32, 1), (32, 32), (32, 1), (6, 32), (6, 1)]
    rows = [torch.cat([image for image, _ in windows[first : first + 2]], dim=3) for first in (0, 2, 4)]
    assert torch.equal(torch.cat(rows, dim=2), images)
    assert len(list(samples.windows(images[..., :30, :], None, 33))) == 1


def test_int8_has_a_tolerance_for_every_class_that_is_shown():
    classes = {"sky": (0.9, 0.9), "car": (0.5, 0.47), "tram": None}
    found = parity("int8", miou=(0.7, 0.696), classes=classes, clear_agreement=0.996, pieces_agreement=0.996)
    assert found.findings() == ("IoU of 'car' goes from 0.5000 to 0.4700, 0.02 is allowed",)
    assert "IoU tram                    not shown" in found.table()
    assert "IoU car                       -0.0300" in found.table()
    assert len(parity("int8", miou=(0.7, 0.694), clear_agreement=0.994).findings()) == 2
    assert parity("int8", miou=(0.7, 0.694), tolerance=0.01).findings() == ()
    assert len(parity("bf16", miou=(0.7, 0.694)).findings()) == 1
    assert parity("bf16", miou=(0.7, 0.694), tolerance=0.01, classes=classes).findings() == ()


def test_a_class_without_true_pixels_is_not_shown():
    truth = torch.randint(0, 3, (2, 9, 11), dtype=torch.uint8)  # never class 3, which is predicted
    found = compared(logits(0), logits(1), truth, precision="int8")
    assert [iou is None for iou in found.classes.values()] == [False, False, False, True]


def test_int8_has_to_be_faster():
    against = "openvino bf16 on this machine (20.0 ms against 21.0 ms)"
    slow = parity("int8", speedup=1.05, speedup_against=against)
    assert slow.findings() == (f"int8 is 1.05 times as fast as {against}, 1.1 is needed",)
    assert parity("int8", speedup=1.2, speedup_against=against).findings() == ()
