"""New Python processes without the seconds that importing torch and timm takes.

`pytest` forks a process as soon as it has collected the tests, which has imported what they import and has computed
nothing; each new process is forked from that one. Where a system cannot fork, an interpreter is started for each.
"""

import atexit
import contextlib
import gc
import json
import logging
import multiprocessing.util
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from support import process_environment

FRESH = ("huggingface_hub", "timm", "pyramidseg")
"""Packages that read the environment when they are imported."""

WITHOUT_FIGURES = """
import sys
from pyramidseg.cli.main import main
from support import without_figures

with without_figures():
    sys.exit(main(sys.argv[1:]))
"""
"""Code for `python -c` that does what `python -m pyramidseg` does, without the figures of a training run."""

_server: "socket.socket | None" = None
_server_process = 0


class PythonProcess:
    """`python WORDS` in a process and a session of its own, which is killed at the end of a `with` block.

    Args:
        words: `-c CODE`, `-m MODULE`, or a file, and arguments.
        environment: instead of `process_environment()`.
        limits: soft limits by constant of `resource`, such as `RLIMIT_FSIZE`.
        folder: the working folder; by default that of this process.
        fresh: packages to import again, as they read the environment.

    Attributes:
        pid: of the process.
    """

    def __init__(
        self,
        *words: object,
        environment: Mapping[str, str] | None = None,
        limits: Mapping[int, int] | None = None,
        folder: Path | None = None,
        fresh: Sequence[str] = (),
    ) -> None:
        self._folder = str(folder or Path.cwd())
        self._words = [str(word) for word in words]
        self._files = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(2)]  # noqa: SIM115
        environment = dict(process_environment() if environment is None else environment)
        self._status: int | None = None
        if _server is None:
            self._start(environment, limits or {})
        else:
            self._fork(environment, limits or {}, fresh)

    def _start(self, environment: dict[str, str], limits: Mapping[int, int]) -> None:
        out, err = self._files
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)  # as forked processes have it
        self._interpreter = subprocess.Popen(
            [sys.executable, *self._words],
            env=environment,
            cwd=self._folder,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=(lambda: _limit(limits)) if limits else None,
        )
        self.pid = self._interpreter.pid

    def _fork(self, environment: dict[str, str], limits: Mapping[int, int], fresh: Sequence[str]) -> None:
        assert _server is not None
        request = [self._words, environment, self._folder, list(limits.items()), list(fresh)]
        text = json.dumps(request).encode()
        self._replies, replying = os.pipe()
        descriptors = [*(file.fileno() for file in self._files), replying]
        socket.send_fds(_server, [len(text).to_bytes(8, "little")], descriptors)
        os.close(replying)
        _server.sendall(text)
        self.pid = int.from_bytes(_read(self._replies, 8), "little")

    def wait(self, timeout: float = 120) -> int:
        """The exit status, or minus the number of the signal that ended the process.

        Raises:
            TimeoutExpired: it has not ended after these seconds.
        """
        if self._status is None and _server is None:
            self._status = self._interpreter.wait(timeout)
        elif self._status is None:
            if not select.select([self._replies], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self._words, timeout, self.output(), self.errors())
            self._status = os.waitstatus_to_exitcode(int.from_bytes(_read(self._replies, 8), "little"))
            os.close(self._replies)
        assert self._status is not None
        return self._status

    def has_ended(self) -> bool:
        """Whether `wait` returns at once."""
        if self._status is not None:
            return True
        if _server is None:
            return self._interpreter.poll() is not None
        return bool(select.select([self._replies], [], [], 0)[0])

    def send(self, number: signal.Signals, *, workers: bool = True) -> None:
        """Send a signal to the process and, as terminals and schedulers do, to its workers."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if workers else os.kill)(self.pid, number)

    def output(self) -> str:
        """What it has printed so far."""
        return self._text(0)

    def errors(self) -> str:
        """What it has printed to stderr so far."""
        return self._text(1)

    def _text(self, number: int) -> str:
        file = self._files[number]
        size = os.fstat(file.fileno()).st_size  # of the file that both processes write at one position
        return os.pread(file.fileno(), size, 0).decode(errors="replace")

    def __enter__(self) -> "PythonProcess":
        return self

    def __exit__(self, *_: object) -> None:
        if not self.has_ended():
            self.send(signal.SIGKILL)
        self.wait()
        for file in self._files:
            file.close()


def run_python(*words: object, timeout: float = 120, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run `python WORDS` to its end, with the options of `PythonProcess`."""
    with PythonProcess(*words, **options) as process:
        status = process.wait(timeout)
        return subprocess.CompletedProcess(list(map(str, words)), status, process.output(), process.errors())


def run_command(
    command: Sequence[str], *, cwd: Path | None = None, check: bool = False, **output: bool
) -> "subprocess.CompletedProcess[str]":
    """Stands in for `subprocess.run` where a test's code starts an interpreter and captures what it prints."""
    assert command[0] == sys.executable and not check and output == {"capture_output": True, "text": True}
    return run_python(*command[1:], environment=os.environ, folder=cwd)


def begin() -> None:
    """Fork the process that later ones are forked from."""
    global _server, _server_process
    if not hasattr(os, "fork") or sys.platform == "darwin" or _server is not None:
        return
    ours, theirs = socket.socketpair()
    process = _fork()
    if process == 0:
        ours.close()
        _serve(theirs)
    theirs.close()
    _server, _server_process = ours, process


def end() -> None:
    """End it."""
    global _server
    if _server is not None:
        _server.shutdown(socket.SHUT_RDWR)  # closing would not end it while a forked loader still has the socket
        _server.close()
        _server = None
        os.waitpid(_server_process, 0)


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: the threads of pytest-xdist hold nothing
        return os.fork()


def _read(descriptor: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (more := os.read(descriptor, size - len(content))):
        content += more
    return content


def _serve(requests: socket.socket) -> NoReturn:
    """Fork a process for each request, until the tests end."""
    gc.freeze()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for entry in [*Path("/proc/self/fd").glob("*")]:
        number = int(entry.name)
        if number > 2 and number not in (nowhere, requests.fileno()):
            with contextlib.suppress(OSError):  # of the listing itself
                os.fstat(number)
                os.dup2(nowhere, number)  # pytest-xdist waits until all have closed its pipes
    while True:
        size, descriptors, _, _ = socket.recv_fds(requests, 8, 3)
        if not size:
            os._exit(0)
        text = _read(requests.fileno(), int.from_bytes(size, "little"))
        if _fork() == 0:
            _watch(json.loads(text), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _watch(request: list[Any], out: int, err: int, replies: int) -> NoReturn:
    """Fork the process, and tell who it is and how it ended."""
    process = _fork()
    if process == 0:
        os.setsid()
        os.close(replies)
        for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
            os.dup2(descriptor, number)
            os.close(descriptor)
        _become(*request)
    os.write(replies, process.to_bytes(8, "little"))
    os.write(replies, os.waitpid(process, 0)[1].to_bytes(8, "little"))
    os._exit(0)


def _limit(limits: Mapping[int, int]) -> None:
    import resource

    for limit, value in limits.items():
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))


def _become(
    words: list[str], environment: dict[str, str], folder: str, limits: list[tuple[int, int]], fresh: list[str]
) -> NoReturn:
    """Do what a new interpreter does with these words."""
    status = 1
    try:
        _reset(environment, fresh)
        os.chdir(folder)
        sys.dont_write_bytecode = True  # a limit on the size of files would truncate what later imports read
        _limit(dict(limits))
        _run(words)
        status = 0
    except SystemExit as error:
        status = _status_of(error)
    except BaseException as error:
        if error.__traceback__ is not None:
            traceback.print_exception(type(error), error, error.__traceback__.tb_next)
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _status_of(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _reset(environment: dict[str, str], fresh: list[str]) -> None:
    """Undo what pytest has changed in this process."""
    import faulthandler

    os.environ.clear()
    os.environ.update(environment)
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name, errors in ((0, "stdin", "strict"), (1, "stdout", "strict"), (2, "stderr", "backslashreplace")):
        stream = open(number, "r" if number == 0 else "w", encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    atexit._clear()
    atexit.register(logging.shutdown)
    atexit.register(multiprocessing.util._exit_function)
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    sys.warnoptions[:] = [option for option in environment.get("PYTHONWARNINGS", "").split(",") if option]
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    for action in sys.warnoptions:
        warnings.simplefilter(action)  # type: ignore[arg-type]
    for name in list(sys.modules):
        if name.partition(".")[0] in fresh:
            del sys.modules[name]


def _run(words: list[str]) -> None:
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.modules.pop(words[1], None)  # a new interpreter has not imported it
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(words[1], "<string>", "exec"), vars(main))
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).parent))
        main = types.ModuleType("__main__")
        main.__file__ = words[0]
        sys.modules["__main__"] = main
        exec(compile(Path(words[0]).read_text(encoding="utf-8"), words[0], "exec"), vars(main))
