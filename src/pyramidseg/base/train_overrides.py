"""Keyword arguments of `train` and `Segmenter`: the settings of `Config`, typed so that editors complete them.

In `train` a setting is given by its key (`epochs=30`), or by section and key (`train__epochs=30`). A test keeps the
classes equal to `Config`.
"""

from collections.abc import Sequence
from typing import Literal, TypedDict


class ModelOverrides(TypedDict, total=False):
    """Settings of the section `model` by key."""

    encoder: str
    encoder_depth: int | None
    encoder_weights: str | None
    weights: str | None
    dropout: float
    in_channels: int
    input_bands: Sequence[int] | None
    finest_stride: Literal[2, 4]
    coarsest_stride: Literal[8, 16, 32]
    pyramid_channels: int
    segmentation_channels: int
    merge: Literal["add", "concat"]
    norm: Literal["batch", "group"]
    smoothing: bool
    align_corners: bool
    interpolation: Literal["nearest", "bilinear"]
    image_head: bool


class SettingsByKey(ModelOverrides, total=False):
    """Settings of all sections by key."""

    ignore: int | str | Sequence[int | str]
    binary: bool
    threshold: int | None
    inverted: bool
    tolerance: int
    resize_masks: bool
    val_share: float | None
    group: str | None
    bands: int | Sequence[int] | None
    class_property: str | None
    vector_crs: str | None
    annotator: str | None
    run_lengths: Literal["columns-1", "columns-0", "rows-1", "rows-0"] | None
    format: str | None
    classes: Sequence[str] | None
    crop: int | str | tuple[int, int]
    scale: tuple[float, float]
    flip: float
    color: float
    rare_class_crops: float
    workers: int | None
    allow_leak: bool
    cache: Literal["auto", "memory", "none"]
    normalization: Literal["auto", "encoder", "dataset"]
    cross_entropy: float
    dice: float
    focal: float
    focal_gamma: float
    presence: float
    class_weights: Literal["none", "sqrt_median_frequency", "median_frequency"] | Sequence[float]
    optimizer: Literal["auto", "adamw", "muon", "sgd"]
    lr: float | None
    encoder_lr_factor: float
    weight_decay: float
    momentum: float
    schedule: Literal["poly", "cosine", "constant"]
    warmup_epochs: float
    clip_norm: float
    layer_decay: float
    ema: float
    freeze_encoder: bool
    freeze_stages: int
    unfreeze_epoch: int
    freeze_norm: bool
    epochs: int
    batch_size: int
    accumulate: int
    val_batch_size: int
    seed: int
    device: str
    precision: Literal["auto", "fp32", "bf16", "fp64"]
    compile: Literal["none", "default", "cuda_graphs"]
    deterministic: bool
    watch: str
    patience: int
    checkpoint_minutes: float
    checkpoint_steps: int
    max_skipped_steps: int
    reset_head: bool


class TrainOverrides(SettingsByKey, total=False):
    """Settings by key, or by section and key."""

    model__encoder: str
    model__encoder_depth: int | None
    model__encoder_weights: str | None
    model__weights: str | None
    model__dropout: float
    model__in_channels: int
    model__input_bands: Sequence[int] | None
    model__finest_stride: Literal[2, 4]
    model__coarsest_stride: Literal[8, 16, 32]
    model__pyramid_channels: int
    model__segmentation_channels: int
    model__merge: Literal["add", "concat"]
    model__norm: Literal["batch", "group"]
    model__smoothing: bool
    model__align_corners: bool
    model__interpolation: Literal["nearest", "bilinear"]
    model__image_head: bool
    data__ignore: int | str | Sequence[int | str]
    data__binary: bool
    data__threshold: int | None
    data__inverted: bool
    data__tolerance: int
    data__resize_masks: bool
    data__val_share: float | None
    data__group: str | None
    data__bands: int | Sequence[int] | None
    data__class_property: str | None
    data__vector_crs: str | None
    data__annotator: str | None
    data__run_lengths: Literal["columns-1", "columns-0", "rows-1", "rows-0"] | None
    data__format: str | None
    data__classes: Sequence[str] | None
    data__crop: int | str | tuple[int, int]
    data__scale: tuple[float, float]
    data__flip: float
    data__color: float
    data__rare_class_crops: float
    data__workers: int | None
    data__allow_leak: bool
    data__cache: Literal["auto", "memory", "none"]
    data__normalization: Literal["auto", "encoder", "dataset"]
    loss__cross_entropy: float
    loss__dice: float
    loss__focal: float
    loss__focal_gamma: float
    loss__presence: float
    loss__class_weights: Literal["none", "sqrt_median_frequency", "median_frequency"] | Sequence[float]
    optim__optimizer: Literal["auto", "adamw", "muon", "sgd"]
    optim__lr: float | None
    optim__encoder_lr_factor: float
    optim__weight_decay: float
    optim__momentum: float
    optim__schedule: Literal["poly", "cosine", "constant"]
    optim__warmup_epochs: float
    optim__clip_norm: float
    optim__layer_decay: float
    optim__ema: float
    optim__freeze_encoder: bool
    optim__freeze_stages: int
    optim__unfreeze_epoch: int
    optim__freeze_norm: bool
    train__epochs: int
    train__batch_size: int
    train__accumulate: int
    train__val_batch_size: int
    train__seed: int
    train__device: str
    train__precision: Literal["auto", "fp32", "bf16", "fp64"]
    train__compile: Literal["none", "default", "cuda_graphs"]
    train__deterministic: bool
    train__watch: str
    train__patience: int
    train__checkpoint_minutes: float
    train__checkpoint_steps: int
    train__max_skipped_steps: int
    train__reset_head: bool
