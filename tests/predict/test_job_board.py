"""Which images a distributed prediction tries again, alone or not at all; and when it hangs."""

import random

import pytest

from pyramidseg.predict.job_board import TRIES, JobBoard, Watchdog


def test_fresh_images_are_predicted_together_and_finished_ones_never_again():
    board = JobBoard(4)
    assert board.claim([0, 1, 2]) == ([0, 1, 2], [], [])
    for number in (0, 1):
        board.begin(number)
    board.finish(0)
    assert board.status()[:2] == (1, [1])
    assert board.claim([0, 1, 2]) == ([2], [1], [])  # after the end of its process
    assert board.status()[:2] == (1, [])
    board.finish(0)
    assert board.status().finished == 1


@pytest.mark.parametrize("deadly", [{5}, {0}, {0, 9}, set(range(10)), set()])
@pytest.mark.parametrize("ahead", [1, 4, 10])
def test_only_images_that_end_their_process_are_given_up(deadly, ahead):
    """A worker with `ahead` images in flight, which ends as soon as it has begun a deadly one."""
    board, done, given_up, processes = JobBoard(10), [], [], 0
    while board.status().finished < 10:
        processes += 1
        fresh, alone, lost = board.claim(range(10))
        given_up += lost
        for number in lost:
            board.finish(number)
        for group in [*(fresh[i : i + ahead] for i in range(0, len(fresh), ahead)), *([n] for n in alone)]:
            for number in group:
                board.begin(number)
            if deadly & set(group):
                break
            for number in group:
                board.finish(number)
                done.append(number)
        else:
            continue
    assert set(given_up) == deadly and sorted(done) == sorted(set(range(10)) - deadly)
    assert processes <= TRIES * len(deadly) + 1


def test_random_ends_of_processes_lose_nothing():
    rng, board, done = random.Random(0), JobBoard(50), []
    while board.status().finished < 50:
        fresh, alone, lost = board.claim(range(50))
        for number in (*lost, *alone, *fresh):
            if number not in lost:
                board.begin(number)
            if rng.random() < 0.05:
                break
            done.append(number)
            board.finish(number)
    assert sorted(done) == list(range(50))


def test_a_worker_that_cannot_start_is_given_up_after_three_tries():
    board = JobBoard(1)
    for _ in range(TRIES):
        assert board.start("a") == board.start("b") == ""  # together, but each counts its own
        board.ready("b")
        board.explain("no GPU")
    assert board.start("a") == "a worker cannot be started, tried 3 times: no GPU"
    assert board.status().failure == board.start("b")
    assert board.status().workers == 3


def test_the_reason_of_a_start_that_crashes_is_said_too_and_the_first_failure_counts():
    board = JobBoard(1)
    for _ in range(TRIES + 1):
        board.start("a")
    board.fail("another")
    assert board.status().failure.endswith("tried 3 times: its process ended while it loaded the model")


def test_the_watchdog_sees_that_nothing_happens():
    time = [0.0]
    board, watchdog = JobBoard(3), Watchdog(10, now=lambda: time[0])
    steps = [
        lambda: None,
        lambda: board.start("a"),
        lambda: board.ready("a"),
        lambda: board.claim([0, 1]),
        lambda: board.begin(0),
        lambda: board.finish(0),
    ]
    for step in steps:
        step()
        for _ in range(2):
            assert not watchdog.is_hung(board.status())
            time[0] += 5
    assert not watchdog.is_hung(board.status())
    time[0] += 0.1
    assert watchdog.is_hung(board.status())
    board.begin(1)
    assert not watchdog.is_hung(board.status())
