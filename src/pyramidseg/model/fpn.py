"""FPN decoder: lateral and top-down maps, semantic branches, merge, spatial dropout.

Papers: Feature Pyramid Networks, Lin et al. 2017, arXiv 1612.03144 (lateral maps, top-down path, smoothing);
Panoptic Feature Pyramid Networks section 3, Kirillov et al. 2019, arXiv 1901.02446 (semantic branch, merge);
spatial dropout, Tompson et al. 2015, arXiv 1411.4280 section 3.2.

Initialisation is that of these papers' reference implementation (Detectron2): lateral and smoothing convolutions
Kaiming-uniform with a = 1 (Xavier for equal fans), semantic branch Kaiming-normal over the fan out for ReLU, biases 0,
norms 1 and 0.

Legend: B batch, C channels, H W pixels, P pyramid channels, S segmentation channels. Maps are listed finest first.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["batch", "group"]

GROUPS = 32
"""Groups of group norm, as in Panoptic FPN."""


class Pyramid(nn.Module):
    """Lateral connections, top-down path and smoothing (FPN section 3).

    From maps of (B, in_channels[i], H_i, W_i), each half as large as the one before, to as many of (B, P, H_i, W_i).
    Bilinear upsampling on the top-down path always has align_corners=False, also if the branches have True: as in
    segmentation_models.pytorch and MMSegmentation, so that their checkpoints give equal logits.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        channels: int = 256,
        smoothing: bool = True,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        super().__init__()
        self.interpolation = interpolation
        self.lateral = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in in_channels)
        self.smoothing = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) if smoothing else nn.Identity() for _ in in_channels
        )
        for conv in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Encoder maps (B, in_channels[i], H_i, W_i) to pyramid maps (B, P, H_i, W_i), finest first.

        Raises:
            ValueError: another number of maps than of `in_channels`.
        """
        merged = self.merge(maps)
        return [smooth(level) for smooth, level in zip(self.smoothing, merged, strict=True)]

    def merge(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The top-down path before smoothing: each lateral map plus the upsampled coarser one; no nonlinearity.

        Shapes and errors are those of `forward`.
        """
        lateral = [conv(level) for conv, level in zip(self.lateral, maps, strict=True)]
        merged = [lateral[-1]]
        for level in reversed(lateral[:-1]):
            merged.append(level + F.interpolate(merged[-1], scale_factor=2.0, mode=self.interpolation))
        return merged[::-1]


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu & He 2018, arXiv 1803.08494) that also accepts groups of one value, which it maps to the bias.

    torch raises an error for such groups, also in evaluation. They occur in a 1x1 map of 32 channels, which a 32x32
    image has at stride 32.
    """

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        return torch.group_norm(maps_BCHW, self.num_groups, self.weight, self.bias, self.eps)


class ConvNormReLU(nn.Module):
    """3x3 convolution, norm, ReLU, and bilinear upsampling by 2 if asked.

    (B, C, H, W) to (B, S, H, W), or (B, S, 2H, 2W) with `upsample`. The convolution has no bias: the norm has one.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm: Norm, upsample: bool, align_corners: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels) if norm == "batch" else GroupNorm(GROUPS, out_channels)
        self.upsample = upsample
        self.align_corners = align_corners
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, level: Tensor) -> Tensor:
        level = F.relu(self.norm(self.conv(level)))
        if not self.upsample:
            return level
        return F.interpolate(level, scale_factor=2.0, mode="bilinear", align_corners=self.align_corners)


class SemanticBranch(nn.Sequential):
    """Brings one level to the finest stride by a `ConvNormReLU` with upsampling per factor of 2.

    (B, P, H / stride, W / stride) to (B, S, H / finest, W / finest). The finest level has one convolution without
    upsampling (Panoptic FPN section 3, figure 3).
    """

    def __init__(
        self, stride: int, finest: int, *, in_channels: int, channels: int, norm: Norm, align_corners: bool
    ) -> None:
        doublings = int(math.log2(stride // finest))
        super().__init__(
            *(
                ConvNormReLU(
                    in_channels if index == 0 else channels,
                    channels,
                    norm=norm,
                    upsample=doublings > 0,
                    align_corners=align_corners,
                )
                for index in range(max(1, doublings))
            )
        )


class SpatialDropout(nn.Module):
    """Zeroes whole feature maps: each map of each sample with probability `rate` while training.

    (B, C, H, W) to the same. Survivors are scaled by 1 / (1 - rate); in evaluation it is the identity.
    Source: Tompson et al. 2015, section 3.2. One random number per map, drawn from torch's generator of the device.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return maps_BCHW
        # Drawn in float32: a bfloat16 draw has 256 values, which shifts the rate.
        draws = torch.rand(maps_BCHW.shape[:2], device=maps_BCHW.device)
        scale = (draws >= self.rate).to(maps_BCHW.dtype) / (1 - self.rate)
        return maps_BCHW * scale[:, :, None, None]

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class FPNDecoder(nn.Module):
    """Pyramid, semantic branches and their merge.

    From encoder maps to one map of (B, `channels`, H / finest, W / finest), where `channels` is S for `add`, and S
    times the number of levels for `concat`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        merge: Literal["add", "concat"] = "add",
        norm: Norm = "batch",
        smoothing: bool = True,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.merge = merge
        self.channels = segmentation_channels * (1 if merge == "add" else len(strides))
        self.pyramid = Pyramid(in_channels, channels=pyramid_channels, smoothing=smoothing, interpolation=interpolation)
        self.branches = nn.ModuleList(
            SemanticBranch(
                stride,
                strides[0],
                in_channels=pyramid_channels,
                channels=segmentation_channels,
                norm=norm,
                align_corners=align_corners,
            )
            for stride in strides
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Encoder maps (B, in_channels[i], H_i, W_i), finest first, to their merged map (B, `channels`, H_0, W_0).

        Raises:
            ValueError: another number of maps than of `in_channels`.
        """
        levels = [branch(level) for branch, level in zip(self.branches, self.pyramid(maps), strict=True)]
        return torch.cat(levels, dim=1) if self.merge == "concat" else sum(levels[1:], levels[0])
