"""Settings: one typed tree, reachable from the command line as `section.key=value`, saved with every run.

The defaults are the recipe that measured best under a fixed budget; docs/recipe.md has the figures. `pyramidseg config`
prints every setting with its default and its meaning, which is the string below its field.
"""

import re
import warnings
from typing import Annotated, Literal, get_args, get_origin

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic.fields import FieldInfo

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.setting_types import (
    Bands,
    Channels,
    Count,
    Fraction,
    IgnoredReference,
    Number,
    NumChannels,
    OneOrMore,
    Positive,
    Section,
    Weight,
)


class ModelConfig(Section):
    """The network."""

    encoder: str = "resnet"
    """Encoder family (resnet, efficientnet) or full timm name (resnet50)."""
    encoder_depth: Count | None = None
    """Depth in the family: 18, 34, 50, 101, 152 (resnet, default 34), 0 to 7 (efficientnet)."""
    encoder_weights: Annotated[str, BeforeValidator(lambda value: "none" if value is None else value)] = "imagenet"
    """Initial weights of the encoder: imagenet, none, a timm tag, or a file."""
    weights: Annotated[str, BeforeValidator(lambda value: "random" if value is None else value)] = "random"
    """Initial weights of the whole network: random, or a bundle."""
    dropout: Fraction = 0.2
    """Spatial dropout rate before the classifier, from 0 to below 1."""
    in_channels: NumChannels = 3
    """Number of image channels."""
    input_bands: Bands | None = None
    """Bands of the image files that are the channels; set by training from data.bands."""
    finest_stride: Literal[2, 4] = 4
    """Stride of the finest pyramid level."""
    coarsest_stride: Literal[8, 16, 32] = 32
    """Stride of the coarsest pyramid level."""
    pyramid_channels: NumChannels = 256
    """Channels of the pyramid levels."""
    segmentation_channels: NumChannels = 128
    """Channels of the semantic branch."""
    merge: Literal["add", "concat"] = "add"
    """How the levels of the semantic branch are merged."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation layers of the semantic branch."""
    smoothing: bool = True
    """3x3 convolution on every merged pyramid level."""
    align_corners: bool = False
    """align_corners of the bilinear upsampling."""
    interpolation: Literal["nearest", "bilinear"] = "nearest"
    """Upsampling in the top-down path."""
    image_head: bool = False
    """Also classify which classes an image contains (see loss.presence)."""

    @property
    def channels(self) -> Channels:
        """The channels that are read from an image file."""
        return self.input_bands or self.in_channels

    @model_validator(mode="after")
    def _check_channels(self) -> "ModelConfig":
        if self.input_bands is not None and len(self.input_bands) != self.in_channels:
            raise ValueError(
                f"input_bands={list(self.input_bands)} are {len(self.input_bands)} channels, but "
                f"in_channels={self.in_channels}: make them agree"
            )
        if self.norm == "group" and self.segmentation_channels % 32:
            raise ValueError(
                f"norm=group has 32 groups, and segmentation_channels={self.segmentation_channels} "
                "is not a multiple of 32: choose one, or norm=batch"
            )
        return self


STEM = "{stem}"
"""The name of an image in the setting `mask_name`."""

CLASS, ANY_NAME = "{class}", "*"
"""In the same setting: the name of a class, and any name of a mask in the folder of its image."""

Transparent = Literal["background", "ignore"]
"""Meaning of the transparent pixels of a mask."""


class LabelConfig(Section):
    """How images and masks are read; set in the configuration or in a dataset's YAML file."""

    ignore: Annotated[tuple[IgnoredReference, ...], OneOrMore] = ()
    """Ignored mask values, #rrggbb colours or class names; * is everything else, nodata the nodata value."""
    binary: bool = False
    """Masks are 0 (background) and 255 (foreground)."""
    threshold: Annotated[int, Field(ge=1, le=65535), Number] | None = None
    """Masks are grey levels or numbers of 8 to 32 bits, and foreground from this value on."""
    inverted: bool = False
    """Swap background and foreground of binary masks."""
    tolerance: Annotated[int, Field(ge=0, le=127), Number] = 0
    """Largest difference per channel between a mask's colour and its class's."""
    resize_masks: bool = False
    """Resize masks to their image's size (nearest) if the sizes differ."""
    transparent: Transparent | None = None
    """What the transparent pixels of masks with an alpha channel are: background (0, or black) or ignore."""
    mask_name: str | None = None
    """Name of an image's mask: {stem}_seg, or {stem}_{class} for one a class. Default: from what all names share."""
    val_share: Annotated[float, Field(gt=0.0, lt=1.0), Number] | None = None
    """Share of the training images used for validation if the dataset has no val split. Default: 0.2."""
    group: str | None = None
    """Regular expression for the sequence part of an id, or a .csv file of images and sequences, which stay whole."""
    window: Annotated[int, Field(ge=32, le=16384), Number] | None = None
    """Side in pixels of the windows that large GeoTIFF images are cut into, as they are needed; default: not cut."""
    window_gap: Annotated[int, Field(ge=0, le=2**20), Number] | None = None
    """Pixels between windows of train and of val, where val is made from them; default: as data.window."""
    bands: Annotated[Bands | None, OneOrMore] = None
    """Bands of the image files that are used, in this order, from 1; default: all."""
    class_property: str | None = None
    """Property of GeoJSON features, or attribute of VIA's regions, that names their class; default: the only one."""
    vector_crs: str | None = None
    """Coordinate system of GeoJSON files, instead of their own: EPSG:32616, or image for the image's."""
    annotator: Annotated[str | None, BeforeValidator(lambda value: str(value) if type(value) is int else value)] = None
    """Whose annotations of Label Studio are read where tasks have several: a number or an e-mail address."""
    mask_column: str | None = None
    """Column of the masks in a Hugging Face dataset with several columns of images; default: the only one of masks."""
    run_lengths: Literal["columns-1", "columns-0", "rows-1", "rows-0"] | None = None
    """Pixel order of CSV run lengths, and the number of the first pixel: columns-1 is Kaggle's usual form."""

    @field_validator("mask_name")
    @classmethod
    def _check_stem(cls, value: str | None) -> str | None:
        if value in (None, CLASS, ANY_NAME):
            return value
        if value.count(STEM) != 1 or value.count(CLASS) > 1 or f"{STEM}{CLASS}" in value or f"{CLASS}{STEM}" in value:
            raise ValueError(
                f"{value!r} has to contain {STEM} once, where the name of the image is: {STEM}_seg; for a mask of each "
                f"class, {CLASS} too: {STEM}_{CLASS} or {CLASS}/{STEM}"
            )
        return value

    @field_validator("group")
    @classmethod
    def _check_pattern(cls, value: str | None) -> str | None:
        if value is not None and value.endswith(".csv"):
            return value
        try:
            with warnings.catch_warnings(action="ignore"):  # about syntax that may change in a later Python
                re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value


class DataConfig(AugmentationConfig, LabelConfig):
    """How the dataset is read, and how images are augmented in training."""

    format: str | None = None
    """Dataset format, such as coco or voc; default: detected."""
    classes: tuple[str, ...] | None = None
    """Class names by id; default: those of the dataset."""
    workers: Annotated[int, Field(ge=0, le=1024), Number] | None = None
    """Processes that load images; default: 1 with training on a CPU, up to 8 for a GPU."""
    unlabeled: str | None = None
    """Folder of images without masks, which the average of the weights labels during training."""
    allow_leak: bool = False
    """Train although files of the validation split are also in the training split."""
    cache: Literal["auto", "memory", "none"] = "auto"
    """Keep decoded training images in memory; auto: if they fit in a quarter of the free memory."""
    normalization: Literal["auto", "encoder", "dataset"] = "auto"
    """Mean and deviation of the encoder or the dataset; auto: the encoder's for 8-bit grey or RGB."""


class LossConfig(Section):
    """The loss: a weighted sum; a weight of 0 disables a term."""

    cross_entropy: Weight = 1.0
    """Weight of the cross entropy."""
    dice: Weight = 1.0
    """Weight of the Dice loss."""
    focal: Weight = 0.0
    """Weight of the focal loss."""
    border: Weight = 0.0
    """Weight of the cross entropy of pixels within 2 pixels of another class, in addition."""
    focal_gamma: Weight = 2.0
    """Exponent of the focal loss."""
    unlabeled_weight: Weight = 1.0
    """Weight of the cross entropy on unlabelled images (data.unlabeled)."""
    confidence: Fraction = 0.9
    """Least probability from which the label of an unlabelled pixel is learned."""
    presence: Weight = 0.4
    """Weight of the image-level loss, used with model.image_head."""
    class_weights: Literal["none", "sqrt_median_frequency", "median_frequency"] | tuple[Weight, ...] = (
        "sqrt_median_frequency"
    )
    """Class weights: none, median_frequency, sqrt_median_frequency, or a number per class."""

    @model_validator(mode="after")
    def _check_weights(self) -> "LossConfig":
        if self.cross_entropy == self.dice == self.focal == self.border == 0:
            raise ValueError("loss.cross_entropy, dice, focal and border are all 0: give at least one a weight")
        return self


PEAK_RATES = {"muon": 3e-3, "adamw": 1e-3, "sgd": 2e-2}
"""Default peak learning rate by optimizer; docs/recipe.md lists the rates that were tried."""


class OptimConfig(Section):
    """Optimizer, learning rate schedule, and which parts of the encoder are trained.

    The parts of the encoder are its stem, and one stage for each map of the pyramid.
    """

    optimizer: Literal["auto", "adamw", "muon", "sgd"] = "auto"
    """Optimizer; auto: adamw with model.weights, else muon."""
    lr: Annotated[float, Field(gt=0.0, le=1e6), Number] | None = None
    """Peak learning rate; default: muon 3e-3 (auto, pretrained: 6e-3), adamw 1e-3, sgd 2e-2."""
    encoder_lr_factor: Weight = 1.0
    """Learning rate of the encoder, as a factor of lr."""
    weight_decay: Weight = 0.01
    """Weight decay."""
    momentum: Fraction = 0.9
    """Momentum of sgd."""
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    """Learning rate schedule after warm-up."""
    warmup_epochs: Weight = 1.0
    """Epochs of linear warm-up."""
    clip_norm: Weight = 0.0
    """Largest norm of the gradient; 0 disables clipping."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0), Number] = 1.0
    """Factor of the learning rate from each part of the encoder to the one before it."""
    ema: Fraction = 0.995
    """Decay of the weights' exponential moving average; 0 disables it."""
    freeze_encoder: bool = False
    """Keep the encoder fixed, including its norms' statistics."""
    freeze_stages: Count = 0
    """Number of the encoder's parts that are kept fixed; 1 is the stem."""
    unfreeze_epoch: Count = 0
    """Epoch after which frozen parts are trained too; 0: never."""
    freeze_norm: bool = False
    """Keep the statistics of the encoder's batch norms fixed."""

    @property
    def peak_lr(self) -> float:
        """The peak rate, once `auto` has been resolved to an optimizer."""
        assert self.optimizer != "auto"
        return PEAK_RATES[self.optimizer] if self.lr is None else self.lr

    @model_validator(mode="after")
    def _check_unfreezing(self) -> "OptimConfig":
        if self.unfreeze_epoch and not (self.freeze_encoder or self.freeze_stages):
            raise ValueError("unfreeze_epoch is set but nothing is frozen: set freeze_encoder or freeze_stages too")
        return self


class TrainConfig(Section):
    """The run: length, batches, precision, monitored metric, checkpoints."""

    epochs: Positive = 50
    """Passes over the training images."""
    batch_size: Positive = 4
    """Crops in a batch on each process."""
    accumulate: Positive = 1
    """Batches whose gradients are summed in one step."""
    val_batch_size: Positive = 4
    """Images in a validation batch, if they have equal sizes."""
    seed: Annotated[int, Field(ge=0), Number] = 0
    """Seed of everything random."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"] = "auto"
    """Arithmetic of the network; auto: bf16 where it is fast, else fp32."""
    compile: Literal["none", "default", "cuda_graphs"] = "none"
    """Compile a step by torch.compile, also as a CUDA graph; changes rounding."""
    deterministic: bool = False
    """Use deterministic algorithms only (on a GPU; slower)."""
    track: Annotated[tuple[Literal["tensorboard", "mlflow", "wandb"], ...], OneOrMore] = ("tensorboard",)
    """Trackers of experiments that get settings and metrics (tensorboard, mlflow, wandb)."""
    watch: str = "val_miou"
    """Column of metrics.csv that selects the best epoch."""
    patience: Count = 0
    """Epochs without improvement after which training stops; 0: never."""
    checkpoint_minutes: Weight = 5.0
    """Minutes between checkpoints; 0: none by time."""
    checkpoint_steps: Count = 0
    """Steps between checkpoints; 0: none by steps."""
    max_skipped_steps: Positive = 10
    """Consecutive steps with a non-finite loss or gradient after which training stops."""
    reset_head: bool = False
    """With model.weights: start the classifier from random weights."""


class Config(Section):
    """All settings of a training run; `make_config` builds one with errors of one line."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    def to_yaml(self) -> str:
        """The whole tree as YAML; `load_config` reads it back to an equal `Config`."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def to_commented_yaml(self) -> str:
        """All settings as YAML comments, each below its meaning: only those whose `#` is removed count as given."""
        lines: list[str] = []
        for name in Config.model_fields:
            section: Section = getattr(self, name)
            summary = (type(section).__doc__ or "").partition("\n")[0]
            lines += ["", f"# {summary}", f"{name}:"]
            values = section.model_dump(mode="json")
            for key, field in type(section).model_fields.items():
                value = yaml.safe_dump([values[key]], default_flow_style=True, width=1000).strip()[1:-1]
                lines += [f"  # {meaning(field)}", f"  # {key}: {value}"]
        return "\n".join(lines[1:]) + "\n"


def meaning(field: FieldInfo) -> str:
    """The meaning of a setting in one line, with its choices if it has some that the description does not mention."""
    text = (field.description or "").removesuffix(".")
    choices = [str(choice) for choice in get_args(field.annotation)] if get_origin(field.annotation) is Literal else []
    return f"{text}." if all(choice in text for choice in choices) else f"{text} ({', '.join(choices)})."
