"""The settings that decide how a dataset is read, and the refusal of those that would have no effect."""

from collections.abc import Sequence

from pyramidseg.config import DataConfig, LabelConfig
from pyramidseg.errors import ConfigError
from pyramidseg.settings import load_config, parse_override

READING = tuple(f"data.{name}" for name in ("format", "classes", *LabelConfig.model_fields))
"""What `open_dataset` goes by."""

OF_RECORDS = ("data.bands", "data.val_share", "data.group")
"""Those that it goes by where records, classes and the source of masks were made in Python."""


def reading_config(settings: Sequence[str]) -> DataConfig:
    """How a dataset is read, from texts `data.key=value`, by a command that trains nothing.

    Raises:
        ConfigError: a setting that does not exist, a value that is not allowed, or a setting of anything else.
    """
    given = dict(parse_override(text) for text in settings)
    config = load_config(overrides=given)
    for name, value in given.items():
        if name not in READING:
            raise ConfigError(
                f"{name}={value}: has no effect here, where data is read and nothing is trained; leave it out "
                f"(known: {', '.join(READING)})"
            )
    return config.data


def refuse_unused(data: DataConfig, source: str) -> None:
    """Refuse settings that say how to read what a dataset made in Python has read already.

    Raises:
        ConfigError: one of them is not at its default.
    """
    for name in READING:
        key = name.removeprefix("data.")
        value = getattr(data, key)
        if name not in OF_RECORDS and value != DataConfig.model_fields[key].default:
            raise ConfigError(
                f"{source}: {name}={value}: has no effect on a dataset made in Python, whose classes and masks say it "
                f"themselves; leave it out (allowed: {', '.join(OF_RECORDS)})"
            )
