"""What a person sees while something runs, by a clock that the tests set."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console as RichConsole

from pyramidseg.base.log import Bar, Console, duration


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


def plain_bar(*, total: int, done: int = 0, quiet: bool = False) -> Bar:
    """A bar where there is no terminal."""
    return Bar(RichConsole(file=io.StringIO()), total=total, title="scoring", done=done, quiet=quiet)


def test_without_a_terminal_a_line_comes_every_thirty_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with plain_bar(total=1200) as bar:
        for _ in range(10):
            clock.seconds += 10
            bar.advance(25)
    assert capsys.readouterr().err.splitlines() == [
        "scoring: 100/1200, 2.5/s, 7:20 left",
        "scoring: 200/1200, 2.5/s, 6:40 left",
    ]


def test_what_is_quickly_done_has_no_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with plain_bar(total=3) as bar:
        for _ in range(3):
            clock.seconds += 10
            bar.advance()
    assert capsys.readouterr() == ("", "")


def test_rate_and_time_left_are_of_what_this_process_did(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with plain_bar(total=500, done=400) as bar:
        clock.seconds += 40
        bar.advance(20, note="loss 0.5")
    assert capsys.readouterr().err == "scoring: 420/500, 0.5/s loss 0.5, 2:40 left\n"


def test_a_quiet_bar_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with plain_bar(total=5, quiet=True) as bar:
        clock.seconds += 100
        bar.advance()
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_shows_count_rate_note_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = RichConsole(file=io.StringIO(), force_terminal=True, width=120, get_time=clock)
    with Bar(screen, total=10, title="epoch 1/2", done=0, quiet=False) as bar:
        for _ in range(6):
            clock.seconds += 0.5
            bar.advance(note="loss 0.5")
        with screen.capture() as shown:
            screen.print(bar._progress.make_tasks_table(bar._progress.tasks))
    for words in ("epoch 1/2", "6/10", "2.0/s loss 0.5", "0:00:02"):
        assert words in shown.get()
    assert capsys.readouterr() == ("", "")


def test_tracking_hands_on_each_item_and_counts_it_when_it_is_done(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    for item in Console().track("abc", total=3, what="reading"):
        seen.append(item)
        clock.seconds += 31
    assert seen == ["a", "b", "c"]
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "reading: 1/3",
        "reading: 2/3",
        "reading: 3/3",
    ]


@pytest.mark.parametrize(("quiet", "said"), [(False, "done\n"), (True, "")])
def test_lines_are_for_people_and_warnings_for_everybody(
    capsys: pytest.CaptureFixture[str], quiet: bool, said: str
) -> None:
    console = Console(quiet=quiet)
    console.say("done")
    console.warn("the disk is nearly full")
    assert capsys.readouterr() == (said, "warning: the disk is nearly full\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (245, "4:05"), (3599.6, "1:00:00"), (3723, "1:02:03")],
)
def test_durations_are_written_as_clocks_do(seconds: float, words: str) -> None:
    assert duration(seconds) == words
