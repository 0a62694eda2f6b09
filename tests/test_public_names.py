"""`import pyramidseg as ps`: every public name resolves, is typed, and collides with nothing."""

import ast
import inspect
import keyword
import pkgutil
import subprocess
import sys
import typing
from collections.abc import Callable
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


WRONG_ARGUMENTS: dict[str, tuple[Callable[[Path, ps.Segmenter], object], str]] = {
    "open_dataset": (
        lambda path, _: ps.open_dataset(path, {"binary": True}),
        r"data=\{.*: must be a DataConfig.*ps\.Data",
    ),  # type: ignore[arg-type]
    "inspect_dataset": (lambda path, _: ps.inspect_dataset(path, data="x"), "data='x': must be a DataConfig"),  # type: ignore[arg-type]
    "evaluate": (lambda path, model: ps.evaluate(model, path, data={}), "data={}: must be a DataConfig"),  # type: ignore[arg-type]
    "export_model": (lambda path, _: ps.export_model(path, data={"a": 1}), "data={.*: must be a DataConfig"),  # type: ignore[arg-type]
    "export a Segmenter": (lambda _, model: ps.export_model(model), r"model: a Segmenter.*model\.save"),  # type: ignore[arg-type]
    "benchmark a Segmenter": (lambda _, model: ps.benchmark_model(model), r"model: a Segmenter.*model\.save"),  # type: ignore[arg-type]
    "export a number": (lambda *_: ps.export_model(7), "model: an object of type int"),  # type: ignore[arg-type]
    "Segmenter": (lambda *_: ps.Segmenter("resnet18", num_classes=3), "encoder='resnet18'`, or ps.create_model"),  # type: ignore[arg-type]
    "predict_files of a model": (
        lambda path, model: ps.predict_files(model, path, path),
        r"a Segmenter.*ps\.Predictor\(",
    ),  # type: ignore[arg-type]
    "predict_files of a path": (
        lambda path, _: ps.predict_files("best", path, path),
        "predictor: a str, but a Predictor",
    ),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_an_argument_of_another_type_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    call, message = WRONG_ARGUMENTS[name]
    model = ps.Segmenter(encoder="test_resnet", encoder_weights="none", num_classes=2)
    with pytest.raises(ps.ConfigError, match=message) as refused:
        call(tmp_path, model)
    assert "\n" not in str(refused.value)


STUDIES = {
    "train": lambda **how: ps.train("street", **how),
    "compare_encoders": lambda **how: ps.compare_encoders("street", ["resnet18", "resnet34"], epochs=1, **how),
    "cross_validate": lambda **how: ps.cross_validate("street", **how),
    "label_curve": lambda **how: ps.label_curve("street", epochs=1, **how),
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_training_takes_a_config_or_a_file_of_settings(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train:\n  epoch: 1\n")
    with pytest.raises(ps.ConfigError, match=r"config\.yaml: unknown setting 'train\.epoch'"):
        STUDIES[name](out=tmp_path / "out", config=tmp_path / "config.yaml")
    with pytest.raises(ps.ConfigError, match="must be a Config or the path of a YAML file; make_config builds"):
        STUDIES[name](out=tmp_path / "out", config={"train": {"epochs": 1}})
    with pytest.raises(
        ps.DataError, match="street: no such file"
    ):  # the settings are taken, and the dataset does not exist
        STUDIES[name](out=tmp_path / "out", config=ps.Config())


def test_studies_that_continue_by_the_path_of_a_dataset_refuse_others(tmp_path: Path) -> None:
    dataset = ps.dataset_from_records(classes=["a", "b"])
    with pytest.raises(ps.ConfigError, match=r"compare: dataset is a Dataset.*ps\.convert_dataset"):
        ps.compare_encoders(dataset, ["resnet18", "resnet34"], out=tmp_path, epochs=1)  # type: ignore[arg-type]
    with pytest.raises(ps.ConfigError, match=r"curve: dataset is a list.*a YAML file with sources"):
        ps.label_curve(["a", "b"], out=tmp_path, epochs=1)  # type: ignore[arg-type]


def types_in(hint: object) -> set[type]:
    inner = {found for part in typing.get_args(hint) for found in types_in(part)}
    return inner | {hint} if isinstance(hint, type) else inner


@pytest.mark.parametrize("name", sorted(name for name in ps.__all__ if inspect.isfunction(getattr(ps, name))))
def test_the_types_that_a_public_function_takes_and_returns_are_public(name: str) -> None:
    used = {found for hint in typing.get_type_hints(getattr(ps, name)).values() for found in types_in(hint)}
    own = {found.__name__ for found in used if found.__module__.startswith("pyramidseg.")}
    assert own - {"TrainOverrides"} <= set(ps.__all__)  # that one stands for the keyword arguments


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
