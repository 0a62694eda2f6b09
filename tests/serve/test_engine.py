"""The queue: equal bytes, batches, deadlines, cancellation, and refusal before memory grows."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import numpy as np
import pytest
import torch

from made_backends import Brightness
from made_server import Held, noise, png
from pyramidseg.base.errors import OutOfMemory
from pyramidseg.export.export_model import export_model
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import OutputOptions
from pyramidseg.serve.engine import Engine, batches_are_exact, first_prediction
from pyramidseg.serve.limits import Admission, Limits, Refused
from pyramidseg.serve.server_metrics import ServerMetrics


@asynccontextmanager
async def engine_of(predictor, **limits):
    limits = Limits(**limits)
    metrics, threads = ServerMetrics(), ThreadPoolExecutor(2)
    batches = False if limits.max_batch_size == 1 else None
    engine = Engine(
        "m", "", load=lambda _: predictor, limits=limits, record=metrics.record, threads=threads, batches=batches
    )
    engine.admission, engine.metrics = Admission(limits), metrics
    await engine.start()
    await engine.warm_up()
    if isinstance(predictor.backend, Brightness):
        predictor.backend.batches.clear()
    try:
        yield engine
    finally:
        await engine.stop()
        threads.shutdown()


async def ask(engine, pixels, *, confidence=False, probabilities=False):
    with engine.admission.admit() as held:
        source = png(pixels) if pixels.dtype == np.uint8 else pixels
        return await engine.predict(source, OutputOptions(confidence, probabilities), held)


def same(result, lone):
    found = result.segmentation
    for name in ("labels", "confidence", "probabilities"):
        ours, theirs = getattr(found, name), getattr(lone, name)
        if (ours is None) != (theirs is None) or (ours is not None and ours.tobytes() != theirs.tobytes()):
            return False
    return True


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    Segmenter(num_classes=3, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).eval().save(path)
    export_model(path, format="onnx")
    return path


@pytest.mark.parametrize(("backend", "exact"), [("onnxruntime", True), ("torch", False)])
def test_answers_are_equal_in_every_byte_to_those_of_a_lone_image(bundle, backend, exact):
    predictor = Predictor(bundle, backend=backend, device="cpu")
    sizes = [(40, 60), (40, 60), (33, 47), (40, 60), (33, 47), (40, 60), (64, 64), (40, 60)]
    images = [noise(*size, seed=seed) for seed, size in enumerate(sizes)]
    outputs = [{}, {"confidence": True}, {}, {"confidence": True}, {}, {"probabilities": True}, {}, {}]

    async def run():
        async with engine_of(predictor, max_wait_ms=200) as engine:
            found = await asyncio.gather(
                *(ask(engine, image, **output) for image, output in zip(images, outputs, strict=True))
            )
            return engine, found

    engine, found = asyncio.run(run())
    lone = [predictor.predict(image, **output) for image, output in zip(images, outputs, strict=True)]
    assert all(map(same, found, lone))
    sizes = engine.metrics.registry.get_sample_value("pyramidseg_batch_size_sum", {"model": "m"})
    batches = engine.metrics.registry.get_sample_value("pyramidseg_batch_size_count", {"model": "m"})
    assert sizes == 8 and (batches < 8) == exact and engine.batches == exact


def test_whether_batches_are_exact_is_measured(bundle):
    class Drifting(Brightness):
        def coarse_logits(self, images):
            return super().coarse_logits(images) + 1e-7 * len(images)

    assert batches_are_exact(Predictor(Brightness()), 4)
    assert not batches_are_exact(Predictor(Drifting()), 4)
    assert batches_are_exact(Predictor(bundle, backend="onnxruntime", device="cpu"), 8)


def test_the_first_prediction_finds_the_type_that_a_model_takes():
    assert first_prediction(Predictor(Brightness())) == "uint8"


def test_the_model_computes_the_next_image_while_label_maps_are_computed():
    begun = threading.Semaphore(0)

    class Counting(Brightness):
        def coarse_logits(self, images):
            begun.release()
            return super().coarse_logits(images)

    class Overlapping(Predictor):
        def segment(self, output, *, options):
            if threading.current_thread() is not threading.main_thread() and self.is_warm and not self.met:
                self.met = begun.acquire(timeout=10) and begun.acquire(timeout=10)  # of this image, and the next one
            return super().segment(output, options=options)

    predictor = Overlapping(Counting())
    predictor.is_warm = predictor.met = False
    images = [noise(8, 9, seed) for seed in range(3)]

    async def run():
        async with engine_of(predictor, max_batch_size=1) as engine:
            while begun.acquire(blocking=False):
                pass
            predictor.is_warm = True
            return await asyncio.gather(*(ask(engine, image) for image in images))

    found = asyncio.run(run())
    assert predictor.met
    assert all(
        same(result, Predictor(Brightness()).predict(image)) for result, image in zip(found, images, strict=True)
    )


def test_a_defect_in_a_label_map_fails_its_caller_alone():
    class Broken(Predictor):
        def segment(self, output, *, options):
            if output[0][0][1].image.shape[0] == 13:
                raise ZeroDivisionError
            return super().segment(output, options=options)

    async def run():
        async with engine_of(Broken(Brightness()), max_batch_size=1) as engine:
            images = [noise(8, 9, 1), noise(13, 9, 2), noise(8, 9, 3)]
            return await asyncio.gather(*(ask(engine, image) for image in images), return_exceptions=True)

    first, second, third = asyncio.run(run())
    assert isinstance(second, ZeroDivisionError)
    assert first.error is None and third.error is None


def test_images_of_equal_size_share_a_batch_and_others_do_not():
    backend = Brightness()

    async def run():
        async with engine_of(Predictor(backend), max_batch_size=3, max_wait_ms=300) as engine:
            images = [noise(8, 9, seed) for seed in range(4)] + [noise(9, 8, 5)]
            return images, await asyncio.gather(*(ask(engine, image) for image in images))

    images, found = asyncio.run(run())
    assert sorted(batch[0] for batch in backend.batches) == [1, 1, 3]
    for image, result in zip(images, found, strict=True):
        assert np.array_equal(result.segmentation.labels, image[..., 0] > 127)


def test_requests_with_other_outputs_do_not_share_a_batch():
    backend = Brightness()

    async def run():
        async with engine_of(Predictor(backend), max_wait_ms=100) as engine:
            return await asyncio.gather(ask(engine, noise()), ask(engine, noise(), confidence=True))

    plain, confident = asyncio.run(run())
    assert plain.segmentation.confidence is None and confident.segmentation.confidence is not None
    assert len(backend.batches) == 2


def test_a_lone_image_does_not_wait_longer_than_max_wait():
    async def run():
        async with engine_of(Predictor(Brightness()), max_wait_ms=0) as engine:
            return await asyncio.wait_for(ask(engine, noise()), 10)

    assert asyncio.run(run()).error is None


def test_a_cancelled_image_leaves_the_queue():
    backend = Held()

    async def run():
        async with engine_of(Predictor(backend), max_batch_size=1) as engine:
            backend.go.clear()
            first = asyncio.create_task(ask(engine, noise(seed=1)))
            while not backend.batches:
                await asyncio.sleep(0.001)
            gone, last = (asyncio.create_task(ask(engine, noise(5 + seed, 6))) for seed in range(2))
            while len(engine._waiting) < 2:
                await asyncio.sleep(0.001)
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone
            assert engine.admission.requests == 2
            backend.go.set()
            await first
            await last
            return engine.admission

    admission = asyncio.run(run())
    assert [shape[-2:] for shape in backend.batches] == [(20, 30), (6, 6)]
    assert admission.requests == admission.bytes == 0


def test_a_defect_of_the_model_reaches_its_callers_only():
    class Failing(Brightness):
        def coarse_logits(self, images):
            if images.shape[-1] == 7:
                raise RuntimeError("a defect")
            return super().coarse_logits(images)

    async def run():
        async with engine_of(Predictor(Failing())) as engine:
            return await asyncio.gather(ask(engine, noise(7, 7)), ask(engine, noise(8, 8)), return_exceptions=True)

    bad, good = asyncio.run(run())
    assert isinstance(bad, RuntimeError) and good.error is None


def test_a_batch_that_does_not_fit_into_memory_is_computed_one_by_one():
    class Small(Brightness):
        def coarse_logits(self, images):
            if len(images) > 1 and images.shape[-1] == 30:
                raise OutOfMemory("too much")
            return super().coarse_logits(images)

    async def run():
        async with engine_of(Predictor(Small()), max_wait_ms=200) as engine:
            return await asyncio.gather(*(ask(engine, noise(seed=seed)) for seed in range(3)))

    for seed, result in enumerate(asyncio.run(run())):
        assert np.array_equal(result.segmentation.labels, noise(seed=seed)[..., 0] > 127)


def test_many_images_from_many_threads_of_the_caller():
    backend = Brightness()
    images = [noise(4 + seed % 3, 5, seed) for seed in range(60)]

    async def run():
        async with engine_of(Predictor(backend), max_batch_size=4) as engine:
            return await asyncio.gather(*(ask(engine, image) for image in images))

    for image, result in zip(images, asyncio.run(run()), strict=True):
        assert np.array_equal(result.segmentation.labels, image[..., 0] > 127)
    assert sum(batch[0] for batch in backend.batches) == 60
    assert threading.active_count() < 20


def test_too_many_requests_and_too_much_memory_are_refused():
    admission = Admission(Limits(max_requests=2, max_memory_mb=1))
    with admission.admit() as first, admission.admit() as second:
        with pytest.raises(Refused, match="busy with 2 requests") as refused, admission.admit():
            pass
        assert refused.value.status == 429 and refused.value.retry_after_s >= 1
        first.add(2**19)
        second.add(2**19)
        with pytest.raises(Refused, match="busy") as refused:
            second.add(1)
        assert refused.value.status == 429
        with pytest.raises(Refused, match="needs 1 MiB of memory, and 1 are allowed") as refused:
            second.add(2**20)
        assert refused.value.status == 413
    assert admission.requests == admission.bytes == 0
