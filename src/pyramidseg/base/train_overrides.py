"""Keyword arguments of `train` and `Segmenter`: the settings of `Config`, typed so that editors complete them.

A test keeps the classes equal to `Config`.
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


class TrainOverrides(ModelOverrides, total=False):
    """Settings of all sections by key (`epochs=30`); no two sections have the same key."""

    ignore: int | str | Sequence[int | str]
    binary: bool
    threshold: int | None
    inverted: bool
    tolerance: int
    resize_masks: bool
    mask_name: str | None
    val_share: float | None
    group: str | None
    window: int | None
    window_gap: int | None
    bands: int | Sequence[int] | None
    class_property: str | None
    vector_crs: str | None
    annotator: str | None
    mask_column: str | None
    transparent: Literal["background", "ignore"] | None
    run_lengths: Literal["columns-1", "columns-0", "rows-1", "rows-0"] | None
    format: str | None
    classes: Sequence[str] | None
    crop: int | str | tuple[int, int]
    crops_per_image: int
    augment: Literal["none", "light", "default", "strong", "aerial"]
    scale: tuple[float, float]
    flip: float
    vertical_flip: float
    quarter_turns: float
    rotation: float
    shear: float
    color: float
    gamma: float
    grey: float
    blur: float
    noise: float
    jpeg: float
    cutout: float
    rare_class_crops: float
    copy_paste: float
    workers: int | None
    unlabeled: str | None
    allow_leak: bool
    cache: Literal["auto", "memory", "none"]
    normalization: Literal["auto", "encoder", "dataset"]
    cross_entropy: float
    dice: float
    focal: float
    border: float
    focal_gamma: float
    unlabeled_weight: float
    confidence: float
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
    precision: Literal["auto", "fp32", "bf16", "fp16", "fp64"]
    compile: Literal["none", "default", "cuda_graphs"]
    deterministic: bool
    track: str | Sequence[Literal["tensorboard", "mlflow", "wandb"]]
    watch: str
    patience: int
    checkpoint_minutes: float
    checkpoint_steps: int
    max_skipped_steps: int
    reset_head: bool
