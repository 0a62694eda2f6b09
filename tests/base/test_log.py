"""Messages and progress on the console, by a clock that the tests set."""

import io
import logging
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from rich.console import Console

from pyramidseg.base import log
from pyramidseg.base.log import (
    ConsoleProgress,
    Progress,
    ProgressTask,
    configure_logging,
    duration,
    only_warnings,
    report_progress,
    track,
)

logger = logging.getLogger("pyramidseg.somewhere.deep")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("pyramidseg.base.log.time", SimpleNamespace(monotonic=made))
    return made


@pytest.fixture
def plain(clock: Clock) -> Iterator[Clock]:
    """Progress on a console that is not a terminal."""
    progress = ConsoleProgress()
    progress._console = Console(file=io.StringIO())
    with report_progress(progress):
        yield clock


@pytest.fixture
def library_logger() -> Iterator[logging.Logger]:
    """The library's logger, left as it was."""
    root = logging.getLogger(log.ROOT)
    before = (root.level, root.propagate, list(root.handlers))
    with report_progress(None):
        yield root
    root.setLevel(before[0])
    root.propagate, root.handlers = before[1], before[2]


def test_without_a_terminal_a_line_comes_every_thirty_seconds(plain: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressTask("scoring", total=1200) as task:
        for _ in range(10):
            plain.seconds += 10
            task.advance(25)
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 100/1200, 2.5/s, 7:20 left",
        "scoring: 200/1200, 2.5/s, 6:40 left",
    ]


def test_a_short_task_prints_no_line(plain: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressTask("scoring", total=3) as task:
        for _ in range(3):
            plain.seconds += 10
            task.advance()
    assert capsys.readouterr() == ("", "")


def test_rate_and_time_left_count_only_what_this_process_did(plain: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressTask("scoring", total=500, done=400) as task:
        plain.seconds += 40
        task.advance(20, note="loss 0.5")
    assert capsys.readouterr().err == "scoring: 420/500, 0.5/s loss 0.5, 2:40 left\n"


def test_on_a_terminal_a_bar_shows_count_rate_note_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = ConsoleProgress()
    screen = progress._console = Console(file=io.StringIO(), force_terminal=True, width=120, get_time=clock)
    with report_progress(progress), ProgressTask("epoch 1/2", total=10) as task:
        for _ in range(6):
            clock.seconds += 0.5
            task.advance(note="loss 0.5")
        assert progress._bar is not None
        with screen.capture() as shown:
            screen.print(progress._bar.make_tasks_table(progress._bar.tasks))
    assert progress._bar is None
    for words in ("epoch 1/2", "6/10", "2.0/s loss 0.5", "0:00:02"):
        assert words in shown.get()
    assert capsys.readouterr() == ("", "")


def test_track_reports_each_item_once_it_is_done() -> None:
    reports: list[Progress] = []
    seen = []
    with report_progress(reports.append):
        for item in track("ab", total=2, task="reading"):
            seen.append((item, reports[-1].done))
    assert seen == [("a", 0), ("b", 1)]
    assert [(report.done, report.finished) for report in reports] == [(0, False), (1, False), (2, False), (2, True)]


def test_an_abandoned_task_is_reported_as_finished() -> None:
    reports: list[Progress] = []
    with report_progress(reports.append):
        items = track("abc", total=3, task="reading")
        next(items)
        items.close()  # type: ignore[attr-defined]
    assert reports[-1] == Progress("reading", 0, 3, finished=True)


def test_without_a_callback_progress_is_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abc", total=3, task="reading")) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("level", "shown"),
    [(logging.DEBUG, "detail\ndone\n"), (logging.INFO, "done\n"), (logging.WARNING, "")],
)
def test_messages_go_to_standard_output_and_warnings_to_standard_error(
    library_logger: logging.Logger, capsys: pytest.CaptureFixture[str], level: int, shown: str
) -> None:
    configure_logging(level)
    configure_logging(level)  # replaces the first, so that nothing is shown twice
    logger.debug("detail")
    logger.info("done")
    logger.warning("the disk is nearly full")
    assert capsys.readouterr() == (shown, "warning: the disk is nearly full\n")


def test_an_error_is_shown_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    try:
        raise ValueError("deep")
    except ValueError:
        logger.exception("a defect")
    shown = capsys.readouterr().err
    assert shown.startswith("error: a defect\nTraceback") and shown.endswith("ValueError: deep\n")


def test_ranks_but_the_first_show_only_warnings(
    library_logger: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    configure_logging()
    logger.info("done")
    logger.warning("the disk is nearly full")
    assert capsys.readouterr() == ("", "warning: the disk is nearly full\n")


def test_only_warnings_silences_messages_and_progress(
    library_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging()
    reports: list[Progress] = []
    with report_progress(reports.append), only_warnings():
        logger.info("done")
        list(track("ab", total=2, task="reading"))
    logger.info("next")
    assert capsys.readouterr() == ("next\n", "")
    assert reports == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (245, "4:05"), (3599.6, "1:00:00"), (3723, "1:02:03")],
)
def test_durations_are_written_as_clocks_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words
