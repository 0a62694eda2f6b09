"""Convolutions that are composed, and convolutions of upsampled maps computed at the resolution of the map itself.

Legend: B batch, C channels, H W pixels, O and I output and input channels, k side of a kernel, r factor of upsampling.
"""

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The kernel of two convolutions of stride 1 in a row.

    conv(conv(x, inner), outer) = conv(x, compose(outer, inner)) wherever the first one is not padded in between.

    Args:
        outer: (O, M, a, a), or a row of it, (O, M, 1, a).
        inner: (M, I, b, b), or (M, I, 1, b).

    Returns:
        (O, I, a + b - 1, a + b - 1), or (O, I, 1, a + b - 1).
    """
    rows, columns = inner.shape[-2:]
    # A full convolution of the kernels: outer is slid over inner, which is flipped because conv2d correlates.
    return F.conv2d(outer, inner.transpose(0, 1).flip(2, 3), padding=(rows - 1, columns - 1))


def upsampled_kernel(kernel: Tensor, factor: int) -> Tensor:
    """The transposed kernel of a convolution after nearest upsampling.

    conv2d(up(x), kernel, padding=h) = conv_transpose2d(x, upsampled_kernel(kernel, r), stride=r, padding=h) for kernels
    of 2h + 1 pixels and any size of x: each value of x is copied to r x r pixels, and the kernel spreads each copy.

    Args:
        kernel: (O, I, k, k).
        factor: r.

    Returns:
        (I, O, k + r - 1, k + r - 1).
    """
    outputs, inputs, side, _ = kernel.shape
    flat = kernel.flip(2, 3).reshape(outputs * inputs, 1, side, side)
    spread = F.conv2d(flat, flat.new_ones(1, 1, factor, factor), padding=factor - 1)
    return spread.reshape(outputs, inputs, side + factor - 1, side + factor - 1).transpose(0, 1)


def convolution(kernel: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution that keeps the size of its input, if its kernel has odd sides."""
    outputs, inputs, height, width = kernel.shape
    padding = (height // 2, width // 2)
    conv = nn.Conv2d(inputs, outputs, (height, width), padding=padding, bias=bias is not None, device="meta")
    conv.weight = nn.Parameter(kernel.contiguous(), requires_grad=False)
    if bias is not None:
        conv.bias = nn.Parameter(bias.contiguous(), requires_grad=False)
    return conv


Term = Callable[[Tensor, int], nn.Module]
"""`graph_term` for graphs, `PhasedTerm` for PyTorch."""


def graph_term(kernel: Tensor, factor: int) -> nn.Module:
    """What runtimes compute fastest: `ShuffledTerm` at factor 2, otherwise `TransposedTerm`.

    At factor 2 and 64x64 pixels phases took 0.65 to 0.83 of the time of a transposed convolution in ONNX Runtime and
    0.59 to 0.68 in OpenVINO in bfloat16 (in float32 0.9 to 1.1); at factor 4 up to 1.5 of it.
    """
    return ShuffledTerm(kernel) if factor == 2 else TransposedTerm(kernel, factor)


class TransposedTerm(nn.Module):
    """Adds a convolution of a nearest-upsampled map, as one transposed convolution (`upsampled_kernel`)."""

    def __init__(self, kernel: Tensor, factor: int) -> None:
        super().__init__()
        outputs, inputs, side, _ = kernel.shape
        self.conv = nn.ConvTranspose2d(
            inputs, outputs, side + factor - 1, stride=factor, padding=side // 2, bias=False, device="meta"
        )
        weight = upsampled_kernel(kernel, factor).contiguous()
        self.conv.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, output: Tensor, level: Tensor) -> Tensor:
        """(B, O, rH, rW) plus the convolution of (B, I, H, W)."""
        added: Tensor = self.conv(level)
        return output + added


class PhasedTerm(nn.Module):
    """As `TransposedTerm`, as one convolution with r x r times the channels, added to `output` in place.

    Each of the r x r output pixels that share a pixel of the map (a phase) has its own kernel, with as few taps as
    there are different pixels under it: 3 x 3 for 5x5 at factor 2, else 2 x 2, half of the phases reading the pixels
    before, half those after. oneDNN computes this faster than transposed convolutions, in bfloat16 by 1.3 to 1.9 times.
    """

    def __init__(self, kernel: Tensor, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = convolution(phase_kernel(kernel, factor), None)
        self.halves = 2 if self.conv.kernel_size[0] == 2 else 1

    def forward(self, output: Tensor, level: Tensor) -> Tensor:
        """(B, O, rH, rW) plus the convolution of (B, I, H, W)."""
        phases = self.conv(level).permute(0, 2, 3, 1)
        (batch, channels), (height, width) = output.shape[:2], level.shape[-2:]
        halves, part = self.halves, self.factor // self.halves
        phases = phases.view(*phases.shape[:3], halves, halves, part, part, channels)
        target = output.permute(0, 2, 3, 1).view(batch, height, halves, part, width, halves, part, channels)
        for down in range(halves):
            for right in range(halves):
                shifted = phases[:, down : down + height, right : right + width, down, right]
                target[:, :, down, :, :, right] += shifted.permute(0, 1, 3, 2, 4, 5)
        return output


class ShuffledTerm(nn.Module):
    """As `PhasedTerm` at factor 2, for graphs: nothing is changed in place, the phases are put together at once."""

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        phases = phase_kernel(kernel, 2)
        self.is_shifted = phases.shape[-1] == 2
        if not self.is_shifted:  # by output channel and phase, as `pixel_shuffle` reads them
            phases = phases.view(4, *kernel.shape[:2], 3, 3).transpose(0, 1).flatten(0, 1)
        self.conv = convolution(phases, None)

    def forward(self, output: Tensor, level: Tensor) -> Tensor:
        """(B, O, 2H, 2W) plus the convolution of (B, I, H, W)."""
        phases: Tensor = self.conv(level)
        if self.is_shifted:
            corners = zip(phases.chunk(4, dim=1), product((slice(0, -1), slice(1, None)), repeat=2), strict=True)
            shifted = [phase[:, :, rows, columns] for phase, (rows, columns) in corners]
            phases = torch.stack(shifted, dim=2).flatten(1, 2)
        return output + F.pixel_shuffle(phases, 2)


def phase_kernel(kernel: Tensor, factor: int) -> Tensor:
    """The kernels of all phases (`PhasedTerm`).

    Phase (a, b) of the convolution of the upsampled map m is

        out[rY + a, rX + b] = sum over y, x of kernel[y, x] m[Y + floor((a + y - h) / r), X + floor((b + x - h) / r)]

    so that its kernel has at each tap the sum of the kernel's values which read the same pixel of m.

    Args:
        kernel: (O, I, k, k), k = 2h + 1.
        factor: r, even; h is at most r.

    Returns:
        (r * r * O, I, t, t) for t taps: 3 if h > r / 2, so that some phase reads three pixels, else 2. Phases are
        ordered by rows, columns and O; with 2 taps by half of the rows, half of the columns, rows, columns and O.
    """
    outputs, inputs, side, _ = kernel.shape
    reach, half = side // 2, factor // 2
    taps = 3 if reach > half else 2
    phases = kernel.new_zeros(factor, factor, outputs, inputs, taps, taps)
    places = [[_tap(phase, offset - reach, factor, taps) for offset in range(side)] for phase in range(factor)]
    for row, rows in enumerate(places):
        for column, columns in enumerate(places):
            for y, down in enumerate(rows):
                for x, right in enumerate(columns):
                    phases[row, column, :, :, down, right] += kernel[:, :, y, x]
    if taps == 2:
        phases = phases.view(2, half, 2, half, outputs, inputs, taps, taps).transpose(1, 2)
    return phases.reshape(-1, inputs, taps, taps)


def _tap(phase: int, offset: int, factor: int, taps: int) -> int:
    """The tap that reads the pixel of the map which is under an offset from a phase."""
    pixel = (phase + offset) // factor
    if taps == 3:
        return pixel + 1
    return pixel + 1 if phase < factor // 2 else pixel
