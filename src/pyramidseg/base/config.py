"""Settings: one typed tree, reachable from the command line as `section.key=value`, saved with every run.

The defaults are the recipe that measured best under a fixed budget; docs/recipe.md has the figures.
"""

import re
import warnings
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator


def _number(value: object) -> object:
    """What is not true or false, which pydantic takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError(f"got {str(value).lower()}, a number is needed")
    return value


Number = BeforeValidator(_number)
Count = Annotated[int, Field(ge=0, le=10**9), Number]
Positive = Annotated[int, Field(ge=1, le=10**9), Number]
Side = Annotated[int, Field(ge=1, le=2**15), Number]
"""In pixels."""
Width = Annotated[int, Field(ge=1, le=2**16), Number]
"""Channels of a map."""
Share = Annotated[float, Field(ge=0.0, le=1.0), Number]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0), Number]
Weight = Annotated[float, Field(ge=0.0, le=1e6), Number]
Factor = Annotated[float, Number]
MaskReference = Annotated[int, Field(ge=0, le=2**24 - 1), Number] | str
"""A value that masks hold, a colour as `#rrggbb`, or a name that the dataset's format defines."""
IgnoredReference = Annotated[int, Field(ge=-(2**31), le=2**24 - 1), Number] | str
"""As `MaskReference`; or a negative number, which can be no class."""
Bands = tuple[Positive, ...]
"""Channels of an image file by their number, from 1 as GIS software counts."""
Channels = int | tuple[int, ...]
"""What of a file becomes a model's channels: their number, or the `Bands`."""


class Section(BaseModel):
    """A group of settings: frozen, and closed against unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The network (DESIGN section 2).

    Attributes:
        input_bands: the bands of a file that are its channels, where it was not trained on all (see `data.bands`).
    """

    encoder: str = "resnet"
    encoder_depth: Count | None = None
    encoder_weights: str = "imagenet"
    weights: str = "random"
    dropout: Fraction = 0.2
    in_channels: Width = 3
    input_bands: Bands | None = None
    finest_stride: Literal[2, 4] = 4
    coarsest_stride: Literal[8, 16, 32] = 32
    pyramid_channels: Width = 256
    segmentation_channels: Width = 128
    merge: Literal["add", "concat"] = "add"
    norm: Literal["batch", "group"] = "batch"
    smoothing: bool = True
    align_corners: bool = False
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    image_head: bool = False

    @field_validator("encoder_weights", mode="before")
    @classmethod
    def _none_is_a_word(cls, value: object) -> object:
        return "none" if value is None else value

    @field_validator("weights", mode="before")
    @classmethod
    def _random_is_a_word(cls, value: object) -> object:
        return "random" if value is None else value

    @property
    def channels(self) -> Channels:
        """What is read of an image file."""
        return self.input_bands or self.in_channels

    @model_validator(mode="after")
    def _bands_are_channels(self) -> "ModelConfig":
        if self.input_bands is not None and len(self.input_bands) != self.in_channels:
            raise ValueError(
                f"input_bands={list(self.input_bands)} are {len(self.input_bands)} channels and "
                f"in_channels={self.in_channels}: make them agree"
            )
        return self

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> "ModelConfig":
        if self.norm == "group" and self.segmentation_channels % 32:
            raise ValueError(
                f"norm=group has 32 groups, and segmentation_channels={self.segmentation_channels} "
                "does not divide by 32: choose a multiple of 32, or norm=batch"
            )
        return self


class LabelConfig(Section):
    """How masks and images are to be read; said in the settings or in a dataset's YAML file.

    Attributes:
        ignore: what counts nowhere: values, colours (`#rrggbb`) or names of the format; `*` is everything else,
            `nodata` NaN and what a mask's own nodata tag names, where that can be no index.
        binary: masks are 0 (background) and 255 (foreground).
        threshold: masks are grey, and foreground from this level on.
        inverted: background and foreground of a binary mask are exchanged.
        tolerance: how far colours may be off in each channel.
        resize_masks: masks of another size than their image are resized to it (nearest).
        val_share: the part of the training images that becomes val where there is no val.
        group: pattern (regular expression) of the part of an id that images of one sequence share: they stay together
            when a val split is made.
        bands: the channels of the image files that the model gets, in this order; all of them where none are named.
        class_property: the property of GeoJSON features that names their class; without it all are one class.
        vector_crs: the coordinate system of GeoJSON files, instead of what they say of it: `EPSG:32616`, or `image` for
            that of each image.
    """

    ignore: tuple[IgnoredReference, ...] = ()
    binary: bool = False
    threshold: Annotated[int, Field(ge=1, le=255), Number] | None = None
    inverted: bool = False
    tolerance: Annotated[int, Field(ge=0, le=127), Number] = 0
    resize_masks: bool = False
    val_share: Annotated[float, Field(gt=0.0, lt=1.0), Number] | None = None
    group: str | None = None
    bands: Bands | None = None
    class_property: str | None = None
    vector_crs: str | None = None

    @field_validator("bands", mode="before")
    @classmethod
    def _one_band_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, int) else value

    @field_validator("ignore", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, (int, str)) else value

    @field_validator("group")
    @classmethod
    def _group_is_a_pattern(cls, value: str | None) -> str | None:
        try:
            with warnings.catch_warnings(action="ignore"):  # of what another version of Python may read otherwise
                re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from None
        return value


class DataConfig(LabelConfig):
    """What is read from the dataset, and how images are varied in training.

    Attributes:
        normalization: whose mean and deviation images are normalised by: the encoder's, which its weights were trained
            with, or those of the training images; `auto` takes the encoder's for 8-bit images of 1 or 3 channels.
        rare_class_crops: share of the crops that are made to show a class drawn from those of the image, rare ones
            more often.
        cache: whether training images stay decoded in memory; `auto`: where they take up to a quarter of what is free.
    """

    format: str | None = None
    classes: tuple[str, ...] | None = None
    crop: tuple[Side, Side] = (320, 320)
    scale: tuple[Factor, Factor] = (0.75, 1.5)
    flip: Share = 0.5
    color: Share = 0.2
    rare_class_crops: Share = 0.0
    workers: Annotated[int, Field(ge=0, le=1024), Number] | None = None
    cache: Literal["auto", "memory", "none"] = "auto"
    normalization: Literal["auto", "encoder", "dataset"] = "auto"

    @field_validator("crop", mode="before")
    @classmethod
    def _one_number_is_a_square(cls, value: object) -> object:
        if isinstance(value, str) and "x" in value:
            return tuple(value.split("x"))
        return (value, value) if isinstance(value, (int, str)) else value

    @field_validator("scale")
    @classmethod
    def _scale_is_a_range(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not 0.05 <= low <= high <= 20:
            raise ValueError("two factors, low before high, between 0.05 and 20")
        return value


class LossConfig(Section):
    """A weighted sum of losses; a weight of 0 leaves a loss out."""

    cross_entropy: Weight = 1.0
    dice: Weight = 1.0
    focal: Weight = 0.0
    focal_gamma: Weight = 2.0
    presence: Weight = 0.4
    class_weights: Literal["none", "sqrt_median_frequency", "median_frequency"] | tuple[Weight, ...] = (
        "sqrt_median_frequency"
    )

    @model_validator(mode="after")
    def _something_is_minimised(self) -> "LossConfig":
        if self.cross_entropy == self.dice == self.focal == 0:
            raise ValueError("loss.cross_entropy, loss.dice and loss.focal are all 0: give at least one a weight")
        return self


PEAK_RATES = {"muon": 3e-3, "adamw": 1e-3, "sgd": 2e-2}
"""Peak learning rate by optimizer; docs/recipe.md says which were tried."""


class OptimConfig(Section):
    """Optimiser, learning rate and its schedule, and what of the encoder is trained when.

    Attributes:
        optimizer: `auto` is Muon from random weights, and AdamW from pretrained ones.
        lr: peak rate; None is the optimizer's own in `PEAK_RATES`.
        encoder_lr_factor: the encoder's rate over the rest's.
        layer_decay: factor of the rate from each part of the encoder to the one before it (its parts: the stem, and a
            stage for each map of the pyramid); the coarsest stage has `layer_decay` times the encoder's rate.
        freeze_encoder: the encoder stays as it is, statistics of its norms included.
        freeze_stages: as many parts of the encoder, from its input on, stay as they are: 1 is the stem.
        unfreeze_epoch: epochs after which what is frozen is trained too; 0 is never.
        freeze_norm: the statistics of the encoder's batch norms stay as they are, whatever else is trained.
    """

    optimizer: Literal["auto", "adamw", "muon", "sgd"] = "auto"
    lr: Annotated[float, Field(gt=0.0, le=1e6), Number] | None = None
    encoder_lr_factor: Weight = 1.0
    weight_decay: Weight = 0.01
    momentum: Fraction = 0.9
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    warmup_epochs: Weight = 1.0
    clip_norm: Weight = 0.0
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0), Number] = 1.0
    ema: Fraction = 0.995
    freeze_encoder: bool = False
    freeze_stages: Count = 0
    unfreeze_epoch: Count = 0
    freeze_norm: bool = False

    @property
    def peak_lr(self) -> float:
        """The peak rate, once it is known which optimizer `auto` is."""
        assert self.optimizer != "auto"
        return PEAK_RATES[self.optimizer] if self.lr is None else self.lr

    @model_validator(mode="after")
    def _something_thaws(self) -> "OptimConfig":
        if self.unfreeze_epoch and not (self.freeze_encoder or self.freeze_stages):
            raise ValueError("unfreeze_epoch is set and nothing is frozen: set freeze_encoder or freeze_stages too")
        return self


class TrainConfig(Section):
    """The run: length, batches, precision, what is watched and kept.

    Attributes:
        compile: whether `torch.compile` makes one program of a step's forward and backward pass, and whether that is
            replayed as a CUDA graph. A step differs in rounding from one that is not compiled.
    """

    epochs: Positive = 50
    batch_size: Positive = 4
    accumulate: Positive = 1
    val_batch_size: Positive = 4
    seed: Annotated[int, Field(ge=0), Number] = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp64"] = "auto"
    compile: Literal["none", "default", "cuda_graphs"] = "none"
    deterministic: bool = False
    watch: str = "val_miou"
    patience: Count = 0
    checkpoint_minutes: Weight = 5.0
    checkpoint_steps: Count = 0
    max_skipped_steps: Positive = 10
    reset_head: bool = False


class Config(Section):
    """All settings of a training run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    def to_yaml(self) -> str:
        """The whole tree as YAML; `load` reads it back to an equal `Config`."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
