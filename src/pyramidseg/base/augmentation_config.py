"""Settings of augmentation, each by itself, and the words that stand for a whole set of them."""

from collections.abc import Mapping
from numbers import Integral
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pyramidseg.base.setting_types import Factor, Number, Positive, Section, Share, SidePx

Degrees = Annotated[float, Field(ge=0.0, le=45.0), Number]

_OFF = {
    "scale": (1.0, 1.0),
    **dict.fromkeys(("flip", "vertical_flip", "quarter_turns", "rotation", "shear", "color", "gamma"), 0.0),
    **dict.fromkeys(("grey", "blur", "noise", "jpeg", "cutout", "copy_paste"), 0.0),
}

AUGMENTATIONS: Mapping[str, Mapping[str, Any]] = {
    "none": _OFF,
    "light": {**_OFF, "scale": (0.9, 1.1), "flip": 0.5, "color": 0.1},
    "default": {**_OFF, "scale": (0.75, 1.5), "flip": 0.5, "color": 0.2},
    "strong": {
        **_OFF,
        **{"scale": (0.5, 2.0), "flip": 0.5, "rotation": 10.0, "shear": 5.0, "color": 0.4, "gamma": 0.3},
        **{"grey": 0.05, "blur": 0.2, "noise": 0.2, "jpeg": 0.2, "cutout": 0.2},
    },
    "aerial": {
        **_OFF,
        **{"scale": (0.75, 1.5), "flip": 0.5, "vertical_flip": 0.5, "quarter_turns": 0.75, "color": 0.2},
    },
}
"""The settings by word; each of them that is given as well has its own value."""


class AugmentationConfig(Section):
    """How training images are changed at random."""

    crop: tuple[SidePx, SidePx] = (320, 320)
    """Height and width of training crops in pixels; 320 and 256x512 are also accepted."""
    crops_per_image: Positive = 1
    """Crops of each training image in an epoch."""
    augment: Literal["none", "light", "default", "strong", "aerial"] = "default"
    """Sets those of the following that are not given; aerial has no top."""
    scale: tuple[Factor, Factor] = (0.75, 1.5)
    """Range of the random resize before cropping."""
    flip: Share = 0.5
    """Probability of a horizontal flip."""
    vertical_flip: Share = 0.0
    """Probability of a vertical flip."""
    quarter_turns: Share = 0.0
    """Probability of a rotation by 90, 180 or 270 degrees; 0.75 makes all four directions as frequent."""
    rotation: Degrees = 0.0
    """Largest rotation in degrees, to either side."""
    shear: Degrees = 0.0
    """Largest shear in degrees, to either side."""
    color: Share = 0.2
    """Strength s of the colour jitter: brightness, contrast and saturation times 1-s to 1+s."""
    gamma: Share = 0.0
    """Strength s of a gamma curve for unsigned integers: the exponent is from exp(-s) to exp(s)."""
    grey: Share = 0.0
    """Probability that RGB becomes grey."""
    blur: Share = 0.0
    """Probability of a Gaussian blur of 0.3 to 1.5 pixels."""
    noise: Share = 0.0
    """Probability of Gaussian noise of up to a fifth of the crop's standard deviation."""
    jpeg: Share = 0.0
    """Probability of JPEG compression with quality 30 to 95, for 8-bit grey or RGB."""
    cutout: Share = 0.0
    """Probability that a rectangle of up to half the crop's sides is filled and ignored."""
    rare_class_crops: Share = 0.0
    """Share of the crops placed on a class drawn from the image's, rare ones more often."""
    copy_paste: Share = 0.0
    """Probability that a class of another image, rare ones more often, is pasted into the crop."""

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: object) -> object:
        word = values.get("augment") if isinstance(values, Mapping) else None
        preset = AUGMENTATIONS.get(word, {}) if isinstance(word, str) else {}
        return {**preset, **values} if isinstance(values, Mapping) else values

    @field_validator("crop", mode="before")
    @classmethod
    def _parse_crop(cls, value: object) -> object:
        if isinstance(value, str):
            parts = value.split("x")
            if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
                raise ValueError(f"{value!r} is not one side in pixels (320) or height x width (256x512)")
            return parts[0], parts[-1]
        return (value, value) if isinstance(value, Integral) else value

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0.05 <= low <= high <= 20:
            raise ValueError(f"{low:g},{high:g} must be two factors, low before high, between 0.05 and 20")
        return value
