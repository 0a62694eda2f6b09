"""The keyword arguments of `train` are the settings of `Config`, with types that editors complete and check."""

import types
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pyramidseg.base.config import Config, ModelConfig
from pyramidseg.base.overrides import SETTINGS, full_name
from pyramidseg.base.train_overrides import ModelOverrides, TrainOverrides

ALSO_ACCEPTED: dict[str, Any] = {
    "data.bands": int | Sequence[int] | None,
    "data.crop": int | str | tuple[int, int],
    "data.ignore": int | str | Sequence[int | str],
    "model.encoder_weights": str | None,
    "model.weights": str | None,
    "train.track": str | Sequence[Literal["tensorboard", "mlflow", "wandb"]],
}
"""Settings whose validators accept more than the type of the field."""


def accepted_type(annotation: Any) -> Any:
    """The type without pydantic's bounds, and with any sequence in place of a tuple of unknown length."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return accepted_type(arguments[0])
    if origin is Literal or not arguments:
        return annotation
    if origin is tuple and arguments[-1] is Ellipsis:
        return Sequence[accepted_type(arguments[0])]
    inner = tuple(accepted_type(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        union = inner[0]
        for further in inner[1:]:
            union = union | further
        return union
    return tuple[inner]


def expected() -> dict[str, Any]:
    hints = {}
    for name in SETTINGS:
        section, _, key = name.partition(".")
        field = Config.model_fields[section].annotation.model_fields[key]
        hints[key] = ALSO_ACCEPTED.get(name, accepted_type(field.annotation))
    return hints


def test_no_two_sections_have_the_same_key() -> None:
    assert len(expected()) == len(SETTINGS)


def test_every_setting_is_a_typed_keyword_of_train() -> None:
    assert get_type_hints(TrainOverrides) == expected()


def test_every_keyword_names_a_setting() -> None:
    assert {full_name(key) for key in TrainOverrides.__annotations__} == set(SETTINGS)


def test_none_is_required() -> None:
    assert not TrainOverrides.__required_keys__


def test_the_keywords_of_a_network_are_those_of_its_section() -> None:
    assert get_type_hints(ModelOverrides).keys() == ModelConfig.model_fields.keys()
