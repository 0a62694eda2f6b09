"""Windows and macOS: nothing that only POSIX has is needed for imports, writing files and the command line."""

import subprocess
import sys
from pathlib import Path

WITHOUT_POSIX = """
import os, pathlib, pkgutil, importlib, sys
import torch, timm, numpy, cv2, PIL.Image, rich.console, pydantic, matplotlib, tifffile, jinja2, safetensors.torch

# As on Windows: modules and functions of POSIX are missing, and a folder cannot be opened.
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None  # importing it raises ImportError
for name in ("sched_getaffinity", "fork", "getuid", "geteuid", "sysconf", "mkfifo", "statvfs"):
    if hasattr(os, name):
        delattr(os, name)
import select
if hasattr(select, "poll"):
    del select.poll
opened = os.open
def open_file(path, *arguments, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, *arguments, **options)
os.open = open_file
import shutil
shutil._use_fd_functions = False  # they open folders

import pyramidseg
for module in pkgutil.walk_packages(pyramidseg.__path__, "pyramidseg."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

from pyramidseg.base import files
files.os = type("os", (), {**vars(os), "name": "nt"})
folder = pathlib.Path(sys.argv[1])
files.write_text(folder / "deep" / "a.txt", "one\\n")
files.write_text(folder / "deep" / "a.txt", "two\\n")
assert (folder / "deep" / "a.txt").read_bytes() == b"two\\n"
assert [path.name for path in (folder / "deep").iterdir()] == ["a.txt"]
files.remove_leftovers(folder / "deep")

import warnings
from pyramidseg.base.output_lock import locked
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of filelock, that it does without the locks of POSIX
    with locked(folder / "deep"):
        pass
assert [path.name for path in (folder / "deep").iterdir()] == ["a.txt"]

from pyramidseg.base.machine import available_processors, free_bytes
assert available_processors() >= 1 and free_bytes(torch.device("cpu")) > 0

from pyramidseg.cli.main import main
assert main(["config"]) == 0
assert main(["describe", "resnet18", "--size", "64"]) == 0
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
"""


def test_everything_imports_writes_and_answers_without_posix(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage: pyramidseg" in done.stdout
