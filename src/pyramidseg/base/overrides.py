"""Reading settings: YAML files and `section.key=value` to a `Config`, with one-line errors."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack, get_args, get_origin

from pydantic import ValidationError

from pyramidseg.base.augmentation_config import AUGMENTATIONS
from pyramidseg.base.config import Config, LabelConfig, ModelConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.safe_paths import short
from pyramidseg.base.text import first_line
from pyramidseg.base.text_files import parse_yaml, read_yaml
from pyramidseg.base.train_overrides import ModelOverrides

SETTINGS = {
    f"{section}.{key}": field
    for section, group in Config.model_fields.items()
    for key, field in type(group.default).model_fields.items()
}
"""Every setting by its name, `section.key`."""

OTHER_NAMES = {
    "model.encoder": "backbone encoder_name",
    "model.encoder_weights": "pretrained",
    "model.merge": "decoder_merge_policy",
    "model.weights": "load_from checkpoint",
    "data.augment": "augmentation augmentations",
    "data.crop": "imgsz img_size image_size crop_size input_size",
    "data.ignore": "ignore_index reduce_zero_label",
    "optim.freeze_encoder": "freeze",
    "optim.lr": "learning_rate lr0",
    "train.accumulate": "accumulative_counts",
    "train.epochs": "max_iters num_epochs",
    "train.precision": "amp",
}
"""What other programs call a setting (docs/coming-from.md)."""


def load_config(file: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """A configuration from the defaults, a YAML file, and single overrides, in this order.

    Args:
        file: YAML with the sections `model`, `data`, `loss`, `optim`, `train`, each optional.
        overrides: value by dotted name, such as `{"train.epochs": 30}`. Text is read as YAML unless the
            setting itself is text; a list may also be written without brackets (`255,11`).

    Raises:
        ConfigError: a name that does not exist (the nearest one is named), or a value that is not allowed.
    """
    tree = _read_tree(Path(file)) if file is not None else {}
    if isinstance(data := tree.get("data"), dict):  # a run's file has all; defaults must not override a dataset's file
        defaults = LabelConfig().model_dump(mode="json")
        tree["data"] = {key: value for key, value in data.items() if key not in defaults or value != defaults[key]}
    for name, value in expand_presets(overrides or {}).items():
        section, dot, key = name.partition(".")
        if not dot or not key:
            raise ConfigError(f"setting {name!r}: write section.key=value; {_nearest_setting(name)}")
        known = tree.setdefault(section, {})
        if not isinstance(known, dict):
            raise ConfigError(f"section {section!r} in {file}: got {known!r}, a mapping of settings is needed")
        known[key] = _read_value(name, value) if isinstance(value, str) else value
    return make_config(tree, origin=str(file) if file else "settings")


def resolve_config(config: Config | str | Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """`load_config` for what Python functions take: a `Config`, a YAML file, or None.

    Raises:
        ConfigError: it is something else, or as `load_config`.
    """
    if isinstance(config, Config):
        return load_config(None, given_settings(config) | expand_presets(overrides or {}))
    if not isinstance(config, (str, Path, type(None))):
        raise ConfigError(
            f"`config={short(config)}`: must be a Config or the path of a YAML file; make_config builds one from a dict"
        )
    return load_config(config, overrides)


def expand_presets(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with the settings that a word among them stands for; single ones go before it, and it before a file."""
    preset = AUGMENTATIONS.get(str(overrides.get("data.augment")), {})
    return {**{f"data.{key}": value for key, value in preset.items()}, **overrides}


def make_config(tree: Mapping[str, Any], *, origin: str = "settings") -> Config:
    """Validate a nested mapping of settings.

    Raises:
        ConfigError: an unknown setting, or a value that is not allowed.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise explain(error, origin=origin) from None


def make_model_config(config: ModelConfig | None = None, **overrides: Unpack[ModelOverrides]) -> ModelConfig:
    """The settings of a network: `config`, or the defaults, with some of them overridden.

    Raises:
        ConfigError: a setting that does not exist, is out of range or contradicts another.
    """
    if not isinstance(config, (ModelConfig, type(None))):
        name = config if isinstance(config, str) else "resnet18"
        advice = f"write `encoder={name!r}`, or ps.create_model({name!r}, num_classes=...)"
        raise ConfigError(f"`config={short(config)}`: must be a ModelConfig; {advice}")
    settings = config.model_dump(exclude_unset=True) if config is not None else {}
    try:
        return ModelConfig.model_validate({**settings, **overrides})
    except ValidationError as error:
        raise explain(error, origin="model") from None


def parse_override(text: str) -> tuple[str, str]:
    """Split `section.key=value`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} is not a setting: write section.key=value; {_nearest_setting(name)}")
    return name.strip(), value.strip()


def explain(error: ValidationError, *, origin: str = "settings") -> ConfigError:
    """The first error of pydantic as one sentence with the setting's name, its value, and what is allowed.

    For a setting with several allowed types, the error with the most specific location is reported.
    """
    found = error.errors(include_url=False)
    first = max(
        (one for one in found if one["loc"][:2] == found[0]["loc"][:2]),
        key=lambda one: sum(not _is_internal(part) for part in one["loc"]),
    )
    name = ".".join(str(part) for part in first["loc"] if not _is_internal(part))
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{origin}: unknown setting {name!r}; {_nearest_setting(name)}")
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not name or first["type"] == "value_error":
        return ConfigError(f"{origin}: {name + ': ' if name else ''}{message}")
    return ConfigError(f"{origin}: {name}={short(first['input'])}: {message}")


def given_settings(config: Config) -> dict[str, Any]:
    """Value by dotted name of the settings that were set explicitly."""
    return {
        f"{section}.{key}": getattr(getattr(config, section), key)
        for section in Config.model_fields
        for key in sorted(getattr(config, section).model_fields_set)
    }


def full_name(key: str) -> str:
    """`section.key` of a setting given by its key alone.

    Raises:
        ConfigError: no section has this key.
    """
    found = next((name for name in SETTINGS if name.rpartition(".")[2] == key), None)
    if found is None:
        raise ConfigError(f"unknown setting {key!r}; {_nearest_setting(key)}")
    return found


def _read_value(name: str, text: str) -> Any:
    """The value of a setting's text: the text itself for text settings (`run #2/best.safetensors`), otherwise YAML.

    Text may be quoted, and `null` given for optional settings, as in YAML. Lists may be written without brackets.
    """
    field = SETTINGS.get(name)
    types = () if field is None else get_args(field.annotation) or (field.annotation,)
    is_text = str in types and set(types) <= {str, type(None)}
    if is_text and text[:1] not in ("'", '"') and not (type(None) in types and text in ("null", "~", "")):
        return text
    is_list = field is not None and any(get_origin(kind) is tuple for kind in (field.annotation, *types))
    try:
        return parse_yaml(f"[{text}]" if is_list and "," in text and text[:1] not in ("[", "{") else text)
    except ValueError as error:
        reason, given = str(error).removeprefix("not readable as YAML: "), first_line(ValueError(text), max_chars=80)
        raise ConfigError(
            f"{name}={given}: not readable as YAML ({reason}); write numbers and words as they "
            "are, separate the items of a list by commas, and quote special characters"
        ) from None


def _nearest_setting(name: str) -> str:
    """A clause that proposes a setting: of this key, of this word elsewhere, of a key like it; else a section's."""
    section, _, key = name.rpartition(".")
    by_key = {known.rpartition(".")[2]: known for known in SETTINGS}
    in_section = {known: full for known, full in by_key.items() if full.startswith(f"{section or name}.")}
    found = [full for known, full in by_key.items() if known == key]
    found += [full for full, others in OTHER_NAMES.items() if key in others.split()]
    found += difflib.get_close_matches(name, Config.model_fields, n=1, cutoff=0.75)
    for keys in (in_section, by_key):
        found += sorted((keys[known] for known in keys if len(key) > 2 and known.startswith(key)), key=len)
        found += [keys[known] for known in difflib.get_close_matches(key, keys, n=1)]
    if found and name not in Config.model_fields:
        return f"did you mean {found[0]!r}?"
    return f"known: {', '.join(sorted(in_section.values()))}" if in_section else "pyramidseg config lists all settings"


def _is_internal(part: object) -> bool:
    """Whether a part of pydantic's location is a branch of a union, not a name."""
    return isinstance(part, str) and ("[" in part or part in {"int", "str", "float", "constrained-int"})


def _read_tree(file: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(file)
    except DefectError as error:
        if error.defect.kind is DefectKind.ABSENT:
            raise ConfigError(f"{file}: no such configuration file") from None
        raise ConfigError(str(error)) from None
    if not isinstance(tree, dict):
        got = "nothing" if tree is None else type(tree).__name__
        raise ConfigError(f"{file}: contains {got}; a mapping of sections is needed ({', '.join(Config.model_fields)})")
    return {name: {} if section is None else section for name, section in tree.items()}
