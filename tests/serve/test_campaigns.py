"""The campaigns of benchmarks/serve, in small."""

import random

import pytest
from benchmarks.serve import campaigns
from benchmarks.serve.load import Server

from made_server import small_bundle


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    bundle = small_bundle(tmp_path_factory.mktemp("model") / "street.safetensors")
    with Server(str(bundle), "--device", "cpu") as server:
        yield server


def test_mutated_requests_get_no_status_500(server):
    statuses = campaigns.mutate(server, 120)
    assert statuses[400] > 20 and statuses[200] > 5


def test_damaged_images_end_no_process(server):
    statuses, ended = campaigns.hostile(server, 60)
    assert statuses[400] > 20 and set(statuses) <= {200, 400, 413} and ended == 0


def test_a_killed_worker_and_reloads_lose_no_request(server):
    assert campaigns.kill(server, 1)[0][200] >= 8
    assert campaigns.reload(server, 1)[0][200] >= 8


def test_mutations_and_hostile_images_differ():
    rng = random.Random(0)
    valid = campaigns.valid_requests()
    assert len({str(campaigns.mutated(rng.choice(valid), rng)) for _ in range(200)}) > 150
    images = {campaigns.hostile_image(rng) for _ in range(200)}
    assert len(images) > 180 and all(images)
