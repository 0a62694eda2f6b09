"""The headless browser that checks a page ends with the process that started it."""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromium import CHROMIUM
from pyramidseg.export import web


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="lists processes as Linux does")
def test_the_browser_ends_with_an_export_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait_for(wanted: bool) -> None:
        end = time.monotonic() + 60
        while (str(tmp_path) in " ".join(_command_lines())) is not wanted:
            assert time.monotonic() < end
            time.sleep(0.1)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "page.html").write_text("<p>waits</p>")
    if (export := os.fork()) == 0:
        with web._browser(tmp_path / "page.html"):
            time.sleep(60)
    wait_for(True)
    os.kill(export, signal.SIGKILL)
    os.waitpid(export, 0)
    wait_for(False)


def _command_lines() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            yield file.read_text(errors="replace")
