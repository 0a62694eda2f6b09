"""Why `auto` takes what it takes: the rule, and what the measurements say of it."""

from pathlib import Path

import pytest

from pyramidseg.backends import TorchBackend
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.studies.benchmark_model import explain_choice
from pyramidseg.studies.benchmark_results import Row

BUNDLE = Path("runs/best.safetensors")


@pytest.fixture(scope="module")
def torch_backend():
    model = Segmenter(
        num_classes=3, encoder="test_resnet", encoder_weights="none", pyramid_channels=32, segmentation_channels=32
    )
    return TorchBackend(model, device="cpu")


def row(backend, precision, speedup, images_per_second=1.0):
    return Row(
        backend=backend,
        precision=precision,
        place="cpu",
        latency_ms=100 / speedup,
        latency_share=None,
        images_per_second=images_per_second,
        throughput_share=None,
        speedup=speedup,
        peak_bytes=1,
    )


def test_what_is_faster_comes_with_the_way_to_it(torch_backend):
    rows = [row("torch", "fp32", 1.0), row("openvino", "fp32", 1.5), row("openvino", "bf16", 3.0)]
    choice = explain_choice(BUNDLE, torch_backend, rows)
    assert (choice.backend, choice.precision) == ("torch", "fp32")
    assert choice.why == (
        "it would take openvino and onnxruntime, in this order, if an export for them lay beside the bundle"
    )
    assert choice.verdict == (
        "in fp32, openvino is 1.50 times as fast here, by one image: "
        "pyramidseg export runs/best.safetensors --format openvino, then --backend openvino",
        "in bf16, openvino is 2.00 times as fast as that, and never taken unasked, as it moves labels where classes "
        "are close: pyramidseg export runs/best.safetensors --format openvino, then --backend openvino "
        "--precision bf16",
    )


def test_the_fastest_is_confirmed(torch_backend):
    rows = [row("torch", "fp32", 1.0), row("torch", "bf16", 0.9)]
    assert explain_choice(BUNDLE, torch_backend, rows).verdict == (
        "in fp32, nothing measured here is faster, by one image",
    )


def test_batches_are_mentioned_where_another_one_is_the_fastest(torch_backend):
    rows = [row("torch", "fp32", 1.0, 9.0), row("openvino", "fp32", 1.5, 6.0), row("openvino", "bf16", 1.0, 20.0)]
    said = explain_choice(BUNDLE, torch_backend, rows).verdict
    assert said[1:] == ("in fp32, by the batch, torch is 1.50 times as fast as openvino",)


def test_a_backend_of_torch_needs_no_export(torch_backend):
    rows = [row("torch", "fp32", 1.0), row("torch-compiled", "fp32", 2.0)]
    (said,) = explain_choice(BUNDLE, torch_backend, rows).verdict
    assert said == "in fp32, torch-compiled is 2.00 times as fast here, by one image: --backend torch-compiled"


def test_what_was_not_measured_is_not_judged(torch_backend):
    choice = explain_choice(BUNDLE, torch_backend, [row("onnxruntime", "fp32", 1.0)])
    assert choice.verdict == ("it is not among those measured here",)


def test_an_export_that_cannot_be_used_is_the_reason(torch_backend):
    torch_backend.note = "best.xml is not used, as it is in fp16"
    try:
        assert explain_choice(BUNDLE, torch_backend, []).why == "best.xml is not used, as it is in fp16"
    finally:
        torch_backend.note = ""
