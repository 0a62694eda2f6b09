"""Run a command in a fork with limits, and judge what came of it.

Everything is imported once, in the process that forks: a trial takes the time of its work.
"""

import ctypes
import faulthandler
import gc
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROMISED = (0, 2, 3)
"""Done, input wrong, done with findings."""

SECONDS = 60.0

NOBODY = 65534

Trial = Callable[[random.Random, Path], "list[str | None]"]
"""A trial does a few cases in an empty folder of its own; it returns the failure of each, None where there is none."""


@dataclass(frozen=True)
class Outcome:
    """What came of a command.

    Attributes:
        status: the exit status; minus the signal, if one ended it.
        seconds: from fork to end.
        memory_mb: largest resident memory; that of the process which forked is part of it.
        stdout, stderr: what it printed.
    """

    status: int
    seconds: float
    memory_mb: float
    stdout: str
    stderr: str

    def failure(self, *, allowed: Sequence[int] = PROMISED) -> str | None:
        """What is wrong with this outcome, in one line."""
        if self.status == -signal.SIGKILL:
            return f"still running after {self.seconds:.0f} s"
        if "Traceback (most recent call last)" in self.stderr:
            return f"traceback: {self.stderr.strip().splitlines()[-1][:300]}"
        if self.status not in allowed:
            return f"status {self.status} instead of {allowed}: {self.stderr.strip()[-600:]}"
        if "\x1b" in self.stdout + self.stderr:
            return "a terminal escape was printed"
        errors = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        if self.status == 2 and len(errors) != 1:
            return f"{len(errors)} lines instead of one that says why: {self.stderr.strip()[-300:]}"
        return None


def preload() -> None:
    """Import what the commands need, with one thread: a process of several cannot be forked safely."""
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", PYRAMIDSEG_CACHE="off")
    import torch

    import pyramidseg.export.export_model
    import pyramidseg.formats.convert_dataset
    import pyramidseg.inspection.inspect_dataset
    import pyramidseg.predict.predict_files
    import pyramidseg.training.loop  # noqa: F401

    torch.set_num_threads(1)
    gc.freeze()


def pyramidseg(
    *arguments: object,
    folder: Path,
    seconds: float = SECONDS,
    kill_after: float | None = None,
    **options: Any,
) -> Outcome:
    """Run `pyramidseg ARGUMENTS` in a fork.

    Args:
        folder: the working folder; two files with the output are written next to it.
        seconds: after these the process and its workers are killed.
        kill_after: kill them after these seconds instead, as an accident would.
        options: limits of `start`.
    """
    running = Running(*arguments, folder=folder, **options)
    return running.ended(seconds=seconds if kill_after is None else kill_after)


class Running:
    """A command that has been started as by `start`; two of them can run at once.

    Args:
        name: distinguishes the files with the output of commands in one folder.
    """

    def __init__(self, *arguments: object, folder: Path, name: str = "", **options: Any) -> None:
        self._outputs = [folder.with_name(f"{folder.name}{name}.{end}") for end in ("stdout", "stderr")]
        self._started = time.monotonic()
        self._process = start(*arguments, folder=folder, outputs=self._outputs, **options)

    def ended(self, *, seconds: float = SECONDS, until: Callable[[], bool] | None = None) -> Outcome:
        """Wait for its end, which comes after these seconds, or as soon as `until` holds."""
        status, usage = wait(self._process, seconds=seconds, until=until)
        written = (output.read_bytes() if output.exists() else b"" for output in self._outputs)  # it may end before
        texts = (text.decode("utf-8", errors="replace") for text in written)
        return Outcome(status, time.monotonic() - self._started, usage.ru_maxrss / 1024, *texts)


def start(
    *arguments: object,
    folder: Path,
    outputs: Sequence[Path] = (Path(os.devnull), Path(os.devnull)),
    limits: Mapping[int, int] | None = None,
    environment: Mapping[str, str] | None = None,
    unprivileged: bool = False,
) -> int:
    """Start `pyramidseg ARGUMENTS` in a fork and a session of its own; returns the process, which `wait` ends.

    Args:
        limits: soft limits by constant of `resource`, such as `RLIMIT_FSIZE`.
        environment: what is added to the environment; with `PYTHONUTF8` in it, a new interpreter is started, which
            reads it, and takes seconds.
        unprivileged: bound by permissions and limits, even if this is root.
    """
    process = os.fork()
    if process == 0:
        words = [str(argument) for argument in arguments]
        _command(words, folder, outputs, limits or {}, environment or {}, unprivileged=unprivileged)
    return process


def wait(
    process: int, *, seconds: float = SECONDS, until: Callable[[], bool] | None = None, number: int = signal.SIGKILL
) -> "tuple[int, resource.struct_rusage]":
    """Wait for the end of a process; its exit status, or minus the signal that ended it, and its usage.

    Args:
        seconds: after these it is killed, with its workers.
        until: as soon as this holds, it and its workers are sent the signal `number`.
    """
    end = time.monotonic() + seconds
    sent = False
    while True:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > end:
            _kill(process, signal.SIGKILL)
        elif until is not None and not sent and until():
            _kill(process, number)
            sent = True
        time.sleep(0.002 if sent or until is None else 0.0005)


def _kill(process: int, number: signal.Signals) -> None:
    try:
        os.killpg(process, number)
    except ProcessLookupError:  # it has no session of its own yet, and thus no workers
        os.kill(process, number)


def _command(
    arguments: list[str],
    folder: Path,
    outputs: Sequence[Path],
    limits: Mapping[int, int],
    environment: Mapping[str, str],
    *,
    unprivileged: bool,
) -> None:
    """What the fork does; it never returns."""
    status = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.update(environment, PYTHONDONTWRITEBYTECODE="1")
        sys.dont_write_bytecode = True  # a limit on the size of files would truncate what later imports read
        for number, output in enumerate(outputs, 1):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
        for limit, value in limits.items():
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
        if unprivileged and os.geteuid() == 0:
            _drop_privileges()
        faulthandler.enable()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does at its start
        if "PYTHONUTF8" in environment or not _can_train():
            os.execv(sys.executable, [sys.executable, "-m", "pyramidseg", *arguments])
        from pyramidseg.cli.main import main

        status = main(arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:  # fails where disk or memory ran out; the fork would go on as the campaign, and delete its folders
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)


def _can_train() -> bool:
    """Whether autograd works in this fork; not if the process that forked has started threads of its engine."""
    import torch

    try:
        torch.ones(1, requires_grad=True).sum().backward()
    except RuntimeError:
        return False
    return True


def _drop_privileges() -> None:
    """Give up what root may do beyond the permissions of its files: its capabilities, and a count of processes."""
    os.setreuid(NOBODY, 0)
    version, empty = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None).capset(version, empty) != 0:
        raise OSError("capset failed")


def address_space(megabytes: float) -> dict[int, int]:
    """A limit on memory: what this process has mapped, and these on top of it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return {resource.RLIMIT_AS: pages * resource.getpagesize() + int(megabytes * 2**20)}


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder by relative name."""
    return {path.relative_to(folder).as_posix(): content_of(path) for path in folder.rglob("*") if path.is_file()}


def content_of(path: Path) -> bytes:
    """Content of a file; the header of a safetensors file, which is written in any order, is sorted."""
    content = path.read_bytes()
    if path.suffix != ".safetensors" or len(content) < 8:
        return content
    end = 8 + int.from_bytes(content[:8], "little")
    try:
        return json.dumps(json.loads(content[8:end]), sort_keys=True).encode() + content[end:]
    except ValueError:  # it is damaged
        return content


def leftovers(folder: Path) -> str | None:
    """A failure if temporary files or locks are left."""
    left = sorted(path.name for path in folder.rglob("*") if path.name.endswith((".part", ".lock")))
    return f"left behind: {left[:3]}" if left else None


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with bytes changed, removed, repeated, overwritten or cut off."""
    damaged = bytearray(content)
    place, length = rng.randrange(len(damaged)), rng.randint(1, 12)
    match rng.randrange(6):
        case 0:
            for _ in range(length):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        case 1:  # in the header, where sizes and tables are
            for _ in range(length):
                damaged[rng.randrange(min(120, len(damaged)))] ^= 1 << rng.randrange(8)
        case 2:
            del damaged[place : place + length]
        case 3:
            damaged[place:place] = damaged[place : place + 4 * length]
        case 4:
            damaged[place : place + length] = rng.choice((b"\0", b"\xff", b"\x7f")) * length
        case _:
            del damaged[place:]
    return bytes(damaged)
