"""Worker processes: a crash, a kill or a hang costs a process, which is replaced, and other callers nothing."""

import asyncio
import errno
import logging
import os
import signal
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest

from made_backends import mortal_predictor, predictor_of_file
from made_server import noise, png
from pyramidseg.base.errors import ConfigError
from pyramidseg.predict.segmentation import OutputOptions
from pyramidseg.serve import process_context
from pyramidseg.serve.limits import Admission, Limits, Refused
from pyramidseg.serve.server_metrics import ServerMetrics
from pyramidseg.serve.workers import WorkerPool

PLAIN = OutputOptions()


@asynccontextmanager
async def pool_of(number, path="", load=mortal_predictor, **limits):
    metrics, limits, reloads = ServerMetrics(), Limits(**{"timeout_s": 30} | limits), []
    options = {"limits": limits, "record": metrics.record, "reload": reloads.append}
    pool = WorkerPool("m", path, number=number, load=load, **options)
    pool.reloads, pool.held = reloads, Admission(limits)
    pool.value = lambda name, **labels: metrics.registry.get_sample_value(f"pyramidseg_{name}", labels) or 0
    try:
        await pool.start()
        await pool.warm_up()
        yield pool
    finally:
        await pool.stop()


async def ask(pool, source, options=PLAIN):
    with pool.held.admit() as held:
        return await pool.predict(source, options, held)


def bright(pixels):
    return pixels[..., 0] > 127


def process_ids(pool):
    return [worker.process.pid for worker in pool._workers]


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_results_of_processes_equal_those_of_the_predictor():
    predictor, images = mortal_predictor(""), [noise(20 + seed % 3, 30, seed) for seed in range(12)]
    options = OutputOptions(confidence=True, probabilities=True)

    async def run():
        async with pool_of(2) as pool:
            assert pool.model.classes == predictor.classes and pool.ready and len(set(process_ids(pool))) == 2
            found = await asyncio.gather(*(ask(pool, png(image), options) for image in images))
            arrays = await asyncio.gather(*(ask(pool, image[:, ::-1], options) for image in images))
            with pytest.raises(Refused, match="not an image in a supported format") as refused:
                await ask(pool, b"text")
            assert refused.value.status == 400
            counts = pool.value("pixels_total", model="m"), pool.value("latency_seconds_count", phase="decode")
            return found, arrays, counts, pool.waiting

    found, arrays, counts, waiting = asyncio.run(run())
    for image, result, flipped in zip(images, found, arrays, strict=True):
        expected = predictor.predict(image, confidence=True, probabilities=True)
        for name in ("labels", "confidence", "probabilities"):
            assert getattr(result.segmentation, name).tobytes() == getattr(expected, name).tobytes()
        assert result.source == png(image) and np.array_equal(result.image, image)
        assert np.array_equal(flipped.segmentation.labels, bright(image[:, ::-1]))
    assert counts == (2 * sum(image[..., 0].size for image in images), 49) and waiting == 0


@pytest.mark.parametrize("deadly", ["model", "decoder"])
def test_an_image_that_ends_its_process_is_refused_and_others_are_answered(deadly, caplog):
    content = png(noise(13, 20)) if deadly == "model" else png(noise()) + b"crash"

    async def run():
        async with pool_of(1, max_batch_size=1) as pool:
            first = process_ids(pool)
            images = [noise(20, 30, seed) for seed in range(6)]
            asked = [ask(pool, png(image)) for image in images]
            found = await asyncio.gather(*asked[:3], ask(pool, content), *asked[3:], return_exceptions=True)
            (refused,) = (one for one in found if isinstance(one, Exception))
            assert isinstance(refused, Refused) and refused.status == 503 and "3 processes ended" in refused.message
            results = [one for one in found if one is not refused]
            assert all(
                np.array_equal(one.segmentation.labels, bright(image))
                for one, image in zip(results, images, strict=True)
            )
            assert process_ids(pool) != first and pool.value("replaced_total", model="m") == 0
            assert pool.value("workers_replaced_total", model="m") == 3

    with caplog.at_level(logging.WARNING, "pyramidseg"):
        asyncio.run(run())
    assert "a worker process ended with" in caplog.text


def test_no_request_is_lost_when_workers_are_killed_under_load():
    async def run():
        async with pool_of(2) as pool:
            found, killed = [], []

            async def keep_asking(seed):
                while len(killed) < 3:
                    image = noise(20, 30, 1000 * seed + len(found))
                    result = await ask(pool, png(image))
                    found.append(np.array_equal(result.segmentation.labels, bright(image)))

            async def kill():
                for number in range(3):
                    done = len(found)
                    await until(lambda done=done: len(found) > done + 3 and all(w.ready for w in pool._workers))
                    os.kill(process_ids(pool)[0], signal.SIGKILL)
                    replaced = lambda number=number: pool.value("workers_replaced_total", model="m") == number + 1  # noqa: E731
                    await until(replaced)
                    killed.append(number)

            await asyncio.gather(kill(), *(keep_asking(seed) for seed in range(4)))
            return found

    found = asyncio.run(run())
    assert len(found) > 12 and all(found)


def test_a_worker_that_hangs_is_replaced_and_its_callers_get_504():
    async def run():
        async with pool_of(1, max_batch_size=1, timeout_s=0.5) as pool:
            first = process_ids(pool)
            hanging = asyncio.create_task(ask(pool, png(noise(17, 20))))
            await until(lambda: pool.waiting == 1)
            behind = asyncio.create_task(ask(pool, png(noise())))
            for task in (hanging, behind):
                with pytest.raises(Refused) as refused:
                    await task
                assert refused.value.status == 504
            image = noise(seed=3)
            result = await ask(pool, png(image))
            assert np.array_equal(result.segmentation.labels, bright(image)) and process_ids(pool) != first

    asyncio.run(run())


def test_a_stopped_process_counts_as_one_that_hangs():
    async def run():
        async with pool_of(1, timeout_s=0.5) as pool:
            os.kill(process_ids(pool)[0], signal.SIGSTOP)
            with pytest.raises(Refused) as refused:
                await ask(pool, png(noise()))
            assert refused.value.status == 504
            assert (await ask(pool, png(noise()))).segmentation is not None

    asyncio.run(run())


def test_a_cancelled_request_is_dropped_by_its_worker():
    async def run():
        async with pool_of(1, max_batch_size=1) as pool:
            images = [ask(pool, png(noise(600, 600, seed))) for seed in range(8)]
            tasks = [asyncio.create_task(one) for one in images]
            await until(lambda: pool.waiting == 8)
            for task in tasks[1:]:
                task.cancel()
            await tasks[0]
            started = asyncio.create_task(ask(pool, png(noise())))
            await asyncio.sleep(0)
            started.cancel()  # as soon as it was sent
            await until(lambda: pool.waiting == 0)
            return pool.value("pixels_total", model="m"), pool.value("workers_replaced_total", model="m")

    pixels, replaced = asyncio.run(run())
    assert 360_000 <= pixels < 8 * 360_000 and replaced == 0


def test_a_defect_reaches_its_caller_with_the_traceback_and_the_process_goes_on():
    async def run():
        async with pool_of(1) as pool:
            first = process_ids(pool)
            with pytest.raises(RuntimeError, match="RuntimeError: a defect of the model"):
                await ask(pool, png(noise(19, 20)))
            assert (await ask(pool, png(noise()))).segmentation is not None and process_ids(pool) == first

    asyncio.run(run())


def test_a_model_that_cannot_be_loaded_is_one_error(tmp_path):
    async def run():
        async with pool_of(2, str(tmp_path / "none")):
            pass

    with pytest.raises(ConfigError, match="none: no such file"):
        asyncio.run(run())


def test_a_replacement_is_tried_until_the_file_is_there_again(tmp_path):
    path = tmp_path / "model"
    path.touch()

    async def run():
        async with pool_of(1, str(path)) as pool:
            path.unlink()
            os.kill(process_ids(pool)[0], signal.SIGKILL)
            await until(lambda: pool.value("workers_replaced_total", model="m") >= 2)
            assert not pool.ready
            waiting = asyncio.create_task(ask(pool, png(noise())))
            path.touch()
            assert (await waiting).segmentation is not None and pool.ready

    asyncio.run(run())


@pytest.mark.parametrize("number", [1, 2])
def test_a_replacement_with_another_model_does_not_answer_in_the_name_of_the_old_one(tmp_path, number):
    path = tmp_path / "model"
    path.write_text("old")

    async def run():
        async with pool_of(number, str(path), load=predictor_of_file) as pool:
            digest = pool.model.digest
            path.write_text("new")
            os.kill(process_ids(pool)[0], signal.SIGKILL)
            await until(lambda: pool.value("workers_replaced_total", model="m") >= 2)
            assert (await ask(pool, png(noise()))).segmentation is not None
            if number == 1:  # the model that is left is named
                assert pool.model.digest != digest and not pool.reloads
            else:  # all processes are to be replaced together, and until then the old one answers
                assert pool.model.digest == digest and pool.reloads == ["m"]
                assert sum(worker.ready for worker in pool._workers) == 1

    asyncio.run(run())


def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch, caplog):
    failures = [OSError(errno.EAGAIN, "Resource temporarily unavailable")]

    def context():
        if failures:
            raise failures.pop()
        return process_context()

    async def run():
        async with pool_of(1) as pool:
            monkeypatch.setattr("pyramidseg.serve.workers.process_context", context)
            os.kill(process_ids(pool)[0], signal.SIGKILL)
            assert (await ask(pool, png(noise()))).segmentation is not None

    asyncio.run(run())
    assert not failures and "cannot be started: [Errno 11] Resource temporarily unavailable" in caplog.text


def test_processes_end_with_the_server():
    async def run():
        async with pool_of(2) as pool:
            return process_ids(pool)

    ids, end = asyncio.run(run()), time.monotonic() + 20
    while any(_alive(number) for number in ids):
        assert time.monotonic() < end
        time.sleep(0.02)


def _alive(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
