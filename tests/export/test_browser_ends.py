"""The headless browser that checks a page: it ends with the process that started it, and its own end is silent."""

import contextlib
import os
import signal
import sys
import tempfile
import threading
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


BROWSER = """#!{python}
import re, socket, struct, sys, time
port = int(re.search(r"127.0.0.1:([0-9]+)/", " ".join(sys.argv)).group(1))
connection = socket.create_connection(("127.0.0.1", port))
connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
connection.sendall(b"POST /first HTTP/1.0\\r\\nContent-Length: 0\\r\\n\\r\\n")
time.sleep(0.2)
connection.close()  # with a reset
open(sys.argv[0] + ".asked", "w").close()
time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="the browser is a script")
def test_a_browser_that_takes_no_more_files_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the end the last request is answered, for which nobody waits."""
    program = tmp_path / "browser"
    program.write_text(BROWSER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("CHROME_PATH", str(program))
    (tmp_path / "page.html").write_text("<p>waits</p>")
    with web._browser(tmp_path / "page.html"):
        while not program.with_name("browser.asked").exists():
            time.sleep(0.05)
    for thread in threading.enumerate():
        if "process_request" in thread.name:
            thread.join(10)
    assert capfd.readouterr().err == ""


def _command_lines() -> Iterator[str]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            yield file.read_text(errors="replace")
