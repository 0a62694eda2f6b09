"""`import pyramidseg as ps`: every public name resolves, is typed, and collides with nothing."""

import ast
import keyword
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import pyramidseg as ps
from pyramidseg.base import errors


def typed_imports() -> dict[str, str]:
    """Module by name, of the imports that only type checkers and editors see."""
    tree = ast.parse(Path(ps.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    assert all(isinstance(node, ast.ImportFrom) for node in block.body)
    return {alias.name: str(node.module) for node in block.body for alias in node.names}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(ps.__all__))
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(ps, name) is not None
    assert name in dir(ps)


def test_names_are_imported_for_type_checkers_from_the_modules_that_define_them() -> None:
    assert typed_imports() == ps._MODULES
    assert sorted([*ps._MODULES, "__version__"]) == sorted(ps.__all__)


def test_no_name_is_a_package_or_a_keyword() -> None:
    packages = {module.name for module in pkgutil.iter_modules(ps.__path__)}
    assert not packages & set(ps.__all__)
    assert not [name for name in ps.__all__ if keyword.iskeyword(name)]


def test_every_error_is_public() -> None:
    tree = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert {error.__name__ for error in tree} <= set(ps.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        ps.tarin  # noqa: B018


def test_the_import_loads_nothing_heavy() -> None:
    code = "import sys, pyramidseg; assert not {'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_checker_completes_and_checks_the_settings_of_train(tmp_path: Path) -> None:
    (tmp_path / "calls.py").write_text(
        "import pyramidseg as ps\n"
        "run = ps.train('data', out='run', encoder='resnet18', lr=1e-3, crop=64, classes=['a', 'b'])\n"
        "reveal_type(run)\n"
        "ps.train('data', out='run', epoch=3)\n"
        "ps.train('data', out='run', epochs='three')\n"
        "ps.compare_encoders('data', ['resnet18', 'resnet34'], out='out', epoch=1)\n",
        encoding="utf-8",
    )
    skipped = (
        "mypy-torch.*,timm.*,numpy.*,cv2.*,matplotlib.*,rich.*,scipy.*,onnx.*"  # they take four fifths of the time
    )
    (tmp_path / "mypy.ini").write_text(f"[mypy]\n[{skipped}]\nfollow_imports = skip\nfollow_imports_for_stubs = true\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "calls.py"],
        cwd=tmp_path,  # with mypy.ini, and without a cache of another run
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line.partition("calls.py:")[2].partition(":")[0] for line in done.stdout.splitlines() if "error" in line]
    assert 'Revealed type is "pyramidseg.training.loop.Run"' in done.stdout, done.stdout
    assert found[:3] == ["4", "5", "6"], done.stdout
