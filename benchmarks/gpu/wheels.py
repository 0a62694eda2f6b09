"""The packages that a machine without network needs, as a list for pip, with the versions of requirements-dev.lock."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

BROUGHT = {"torch", "torchvision", "timm"}
"""Packages of the machine itself: they belong to its driver. What only they need is not listed either."""

FOR_PARTS = {"pytest": "tests", "hypothesis": "tests", "segmentation-models-pytorch": "training to memory"}
ONLY_TENSORRT = ("onnx", "onnxscript", "onnxruntime", "tensorrt")
"""Without the first three there is no exported file; ONNX Runtime checks it."""


def needed() -> dict[str, str]:
    """Every package that is used directly, with the parts that need it."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=~! ]", wanted, maxsplit=1)[0] for wanted in project["dependencies"]]
    return {**dict.fromkeys(names, "all"), **FOR_PARTS, **dict.fromkeys(ONLY_TENSORRT, "tensorrt")}


def missing() -> list[str]:
    """Packages that are not installed, with the parts that need them."""
    return [f"{name} (for {part})" for name, part in needed().items() if not _is_installed(name)]


def wheels() -> str:
    """Lines for `pip download --no-deps --requirement FILE`, dependencies included."""
    pinned, parents = read_lock(Path("requirements-dev.lock").read_text(encoding="utf-8"))
    used = needed()
    common = closure((name for name, part in used.items() if part != "tensorrt"), parents)
    tensorrt = closure(ONLY_TENSORRT, parents) - common
    return "\n".join(
        [
            f"# without {', '.join(sorted(BROUGHT))}, which the machine has to have; pip download --no-deps",
            *(line for name in sorted(common) for line in pinned.get(name, (name,))),
            "# for the part tensorrt alone",
            *(line for name in sorted(tensorrt) for line in pinned.get(name, (f"# {name}, not pinned: for its CUDA",))),
        ]
    )


def closure(roots: Iterable[str], parents: Mapping[str, set[str]]) -> set[str]:
    """These packages and all that they need, but nothing that only the machine's own packages need."""
    found, before = set(roots) - BROUGHT, 0
    while len(found) > before:
        before = len(found)
        found |= {name for name, given in parents.items() if given & found and name not in BROUGHT}
    return found


def read_lock(text: str) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Pinned versions (several where Python's version decides), and the packages that need each, by name."""
    pinned: dict[str, list[str]] = {}
    parents: dict[str, set[str]] = {}
    name = ""
    for line in text.splitlines():
        if entry := re.match(r"([a-z0-9][a-z0-9._-]*)==[^\\]+", line):
            name = entry[1]
            pinned.setdefault(name, []).append(entry[0].strip())
            parents.setdefault(name, set())
        elif via := re.match(r"    #\s+(?:via )?([a-z0-9][a-z0-9._-]*)", line):
            parents[name].add(via[1])
    return pinned, parents


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
