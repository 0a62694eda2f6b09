"""TensorFlow's "same" padding with fixed amounts, for networks that were ported from TensorFlow.

How much such a convolution pads depends on the size of its input. Where the input's sides divide by
the stride it does not: the amount is then (kernel - 1) * dilation + 1 - stride. A `Segmenter` pads its images to
multiples of the coarsest stride, so that holds for all of its layers. Graphs of such networks become traceable in
seconds where their formulas for the sizes took longer than anybody waits.
"""

from timm.layers.conv2d_same import Conv2dSame
from torch import nn


def make_padding_static(model: nn.Module) -> int:
    """Replace every convolution with "same" padding by one with constant padding, in place; returns their number."""
    count = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is Conv2dSame:
                setattr(parent, name, _static(child))
                count += 1
    return count


def _static(conv: Conv2dSame) -> nn.Sequential:
    (height, width), (rows, columns), (down, across) = conv.kernel_size, conv.dilation, conv.stride
    vertical = max(0, (height - 1) * rows + 1 - down)
    horizontal = max(0, (width - 1) * columns + 1 - across)
    # As TensorFlow: of an odd amount, the larger half goes below and to the right.
    pad = nn.ZeroPad2d((horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2))
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (height, width),
        stride=(down, across),
        dilation=(rows, columns),
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    return nn.Sequential(pad, plain)
