"""The base class of the sections of settings, and types of their values."""

from numbers import Integral
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator


def _refuse_boolean(value: object) -> object:
    """Reject booleans: pydantic would coerce them to 0 and 1."""
    if isinstance(value, bool):
        raise ValueError(f"got {str(value).lower()}, a number is needed")
    return value


Number = BeforeValidator(_refuse_boolean)
Count = Annotated[int, Field(ge=0, le=10**9), Number]
Positive = Annotated[int, Field(ge=1, le=10**9), Number]
SidePx = Annotated[int, Field(ge=1, le=2**15), Number]
NumChannels = Annotated[int, Field(ge=1, le=2**16), Number]
Share = Annotated[float, Field(ge=0.0, le=1.0), Number]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0), Number]
Weight = Annotated[float, Field(ge=0.0, le=1e6), Number]
Factor = Annotated[float, Number]
MaskReference = Annotated[int, Field(ge=0, le=2**24 - 1), Number] | str
"""A mask value, a colour as `#rrggbb`, or a name that the dataset's format defines."""
IgnoredReference = Annotated[int, Field(ge=-(2**31), le=2**24 - 1), Number] | str
"""A `MaskReference`, or a negative value, which can only be ignored."""
OneOrMore = BeforeValidator(lambda value: (value,) if isinstance(value, (Integral, str)) else value)
"""For a tuple that may be given as a single value."""
Bands = tuple[Positive, ...]
"""Numbers of an image file's channels, from 1 as in GIS software."""
Channels = int | tuple[int, ...]
"""The channels that are read from an image file: their number, or the `Bands`."""


class Section(BaseModel):
    """A frozen group of settings that rejects unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_nul(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("contains a NUL character, which no path or name has")
        return value
