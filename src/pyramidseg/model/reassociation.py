"""The decoder with fewer multiplications and equal outputs: linear layers in a row are composed, level by level.

Between the encoder's maps and the first norm of a semantic branch the FPN is linear: the lateral 1x1 convolution, the
sum with the upsampled coarser map, smoothing 3x3 and the branch's first 3x3. Convolutions in a row are one convolution
(`compose`), and a convolution of a nearest-upsampled map is one transposed convolution of the map itself
(`upsampled_kernel`). With x[i] the merged map and c[i] the encoder's map of level i,

    x[i] = lateral[i](c[i]) + up(x[i+1]),  output[i] = branch[i](smoothing[i](x[i]))

so output[i] is a 5x5 convolution of c[i], which has few channels at fine levels, plus a transposed convolution of
x[i+1], and x[i] is never computed. Which form is the cheapest is found by counting multiplications (`cheapest_form`).

Two details make it exact. A lateral bias is the same as a constant that is added to the coarser map before upsampling,
where the zeros around the image are right. And the 5x5 convolution includes smoothed values just outside of the image,
which the network replaces by zeros: what the branch would take from this ring is subtracted (`Ring`).

Legend: B batch, C channels of an encoder map, H W pixels, P pyramid channels, S segmentation channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyramidseg.model.composed_convolutions import PhasedTerm, Term, compose, convolution, graph_term
from pyramidseg.model.fpn import ConvNormReLU, FPNDecoder, SemanticBranch


@dataclass(frozen=True)
class Form:
    """How the first convolution of a level's branch is computed.

    Attributes:
        name: `as written`; `lateral`: smoothing is composed with the lateral convolution; `lateral and branch`: so is
            the branch's convolution. Without smoothing, the latter composes lateral and branch.
        expanded: number of coarser levels whose lateral convolutions are composed too. The merged map of the level
            after them is the only other input.
        macs: multiplications per pixel of the level.
    """

    name: str
    expanded: int
    macs: float


def cheapest_form(
    channels: Sequence[int], *, pyramid_channels: int, segmentation_channels: int, smoothing: bool
) -> Form:
    """The form of a level with the fewest multiplications.

    Args:
        channels: of the encoder's maps of this level and of all coarser ones.
    """
    p, s = pyramid_channels, segmentation_channels
    written = channels[0] * p + (9 * p * p if smoothing else 0) + 9 * p * s
    forms = [Form("as written", 0, written)]
    for expanded in range(len(channels) - 1):  # the coarsest level has no coarser one that could carry its bias
        inputs = [*channels[: expanded + 1], p]
        kernel = 5 if smoothing else 3
        forms.append(Form("lateral and branch", expanded, s * _taps(inputs, kernel)))
        if smoothing:
            forms.append(Form("lateral", expanded, p * _taps(inputs, 3) + 9 * p * s))
    return min(forms, key=lambda form: form.macs)


def _taps(inputs: Sequence[int], kernel: int) -> float:
    """Multiplications per pixel and output channel: inputs of this level, of half its resolution, of a quarter, ..."""
    return sum(count * float((kernel + 2**level - 1) / 2**level) ** 2 for level, count in enumerate(inputs))


class Composed(nn.Module):
    """A convolution of a merged map, computed from the encoder's maps and a coarser merged map.

    With the lateral convolutions W[j] + b[j] of encoder maps c[j], j = 0 ... n, and the merged map m after them,

        k * x + bias = (k o W[0]) * c[0] + bias + sum over j >= 1 of (k o W[j]) * up(c[j], 2^j)
                       + k * up(m + sum over all j of b[j], 2^(n+1))

    where * is a convolution that keeps the size, o is `compose`, and up repeats pixels.

    Args:
        kernel: (O, P, k, k) of the convolution.
        bias: (O,) of the convolution.
        lateral: the lateral convolutions of this level and of the expanded ones.
    """

    lateral_bias: Tensor

    def __init__(self, kernel: Tensor, bias: Tensor, lateral: Sequence[nn.Module], *, term: Term) -> None:
        super().__init__()
        weights = [_weight(conv) for conv in lateral]
        self.own = convolution(compose(kernel, weights[0]), bias)
        kernels = [compose(kernel, weight) for weight in weights[1:]] + [kernel]
        self.coarser = nn.ModuleList(term(each, 2**level) for level, each in enumerate(kernels, start=1))
        self.register_buffer("lateral_bias", torch.stack([_bias(conv) for conv in lateral]).sum(0)[:, None, None])

    def forward(self, maps: Sequence[Tensor], merged: Tensor) -> Tensor:
        """(B, O, H, W), from the encoder's maps of this and the expanded levels and the merged map after them."""
        output: Tensor = self.own(maps[0])
        for term, level in zip(self.coarser, [*maps[1:], merged + self.lateral_bias], strict=True):
            output = term(output, level)
        return output


class Ring(nn.Module):
    """What a branch's 3x3 convolution would take from smoothed values just outside the image: to be subtracted.

    With the smoothing s[p] of the zero-padded merged map at all pixels p, also outside the image,

        branch * (s inside, 0 outside) = branch * s - branch * (s at the pixels next to the image, else 0)

    where the first term is the composed convolution, and this module adds the second to it.

    The value of smoothing at row -1 is made from row 0 of the merged map alone, by the last row of its kernel, and
    enters row 0 of the output by the first row of the branch's kernel. Rows include the ring's corners, columns do not.
    """

    def __init__(self, branch: Tensor, smoothing: Tensor, smoothing_bias: Tensor) -> None:
        super().__init__()
        self.rows = nn.ModuleList()
        self.columns = nn.ModuleList()
        for outside, inside in ((0, 2), (2, 0)):  # top and left; bottom and right
            # In one dimension: a ring of W + 2 values is exactly what W outputs read, so that both are one convolution.
            row = compose(branch[:, :, outside, None], smoothing[:, :, inside, None])
            bias = branch[:, :, outside, :].sum(2) @ smoothing_bias
            self.rows.append(convolution(-row, -bias))
            self.columns.append(
                nn.Sequential(
                    convolution(smoothing[:, :, :, inside][..., None], smoothing_bias),
                    convolution(-branch[:, :, :, outside][..., None], branch.new_zeros(len(branch))),
                )
            )

    def forward(self, output: Tensor, lines: Sequence[Tensor]) -> Tensor:
        """The output of a composed convolution, corrected.

        Args:
            output: (B, S, H, W); changed in place.
            lines: the first and last row and the first and last column of the merged map.
        """
        top, bottom, left, right = (conv(line) for conv, line in zip([*self.rows, *self.columns], lines, strict=True))
        if torch.compiler.is_exporting():  # graphs have no memory to change
            middle = output[:, :, 1:-1]
            output = torch.cat([output[:, :, :1] + top, middle, output[:, :, -1:] + bottom], dim=2)
            middle = output[..., 1:-1]
            return torch.cat([output[..., :1] + left, middle, output[..., -1:] + right], dim=3)
        for part, correction in (
            (output[:, :, :1], top),
            (output[:, :, -1:], bottom),
            (output[..., :1], left),
            (output[..., -1:], right),
        ):
            part += correction
        return output


class ComposedLevel(nn.Module):
    """A level whose merged map is not computed, but for its border."""

    def __init__(
        self, form: Form, lateral: Sequence[nn.Module], smoothing: nn.Module, branch: nn.Module, *, term: Term
    ) -> None:
        super().__init__()
        self.expanded = form.expanded
        self.lateral = lateral[0]
        assert isinstance(branch, SemanticBranch)
        first = branch[0]
        assert isinstance(first, ConvNormReLU)
        self.branch = branch
        self.ring: Ring | None = None
        kernel, bias = _weight(first.conv), _bias(first.conv)
        if form.name == "lateral":
            assert isinstance(smoothing, nn.Conv2d)
            kernel, bias = _weight(smoothing), _bias(smoothing)
        else:
            if isinstance(smoothing, nn.Conv2d):
                self.ring = Ring(kernel, _weight(smoothing), _bias(smoothing))
                bias = bias + kernel.sum((2, 3)) @ _bias(smoothing)
                kernel = compose(kernel, _weight(smoothing))
            first.conv = nn.Identity()  # type: ignore[assignment]
        self.composed = Composed(kernel, bias, lateral[: form.expanded + 1], term=term)

    def forward(self, maps: Sequence[Tensor], merged: Sequence[Tensor]) -> Tensor:
        """The branch's output.

        Args:
            maps: of the encoder, of this level and all coarser ones.
            merged: the merged maps of all coarser levels.
        """
        output = self.composed(maps[: self.expanded + 1], merged[self.expanded])
        if self.ring is not None:
            output = self.ring(output, self._border(maps[0], merged[0]))
        result: Tensor = self.branch(output)
        return result

    def _border(self, level: Tensor, coarser: Tensor) -> list[Tensor]:
        """The border of this level's merged map: its first and last row, its first and last column."""
        return [
            self.lateral(line) + F.interpolate(coarse, scale_factor=scale, mode="nearest")
            for line, coarse, scale in (
                (level[:, :, :1], coarser[:, :, :1], (1.0, 2.0)),
                (level[:, :, -1:], coarser[:, :, -1:], (1.0, 2.0)),
                (level[..., :1], coarser[..., :1], (2.0, 1.0)),
                (level[..., -1:], coarser[..., -1:], (2.0, 1.0)),
            )
        ]


class ReassociatedDecoder(nn.Module):
    """An `FPNDecoder` in evaluation mode with every level in its cheapest form; equal outputs up to rounding.

    Batch norms have to be folded before. The weights are composed in float64.

    Args:
        decoder: its modules are used, and some of them changed.
        for_graph: whether the module will be traced to a graph, in which nothing is changed in place.

    Attributes:
        forms: of the levels, finest first.
    """

    def __init__(self, decoder: FPNDecoder, *, for_graph: bool = False) -> None:
        super().__init__()
        self.merge = decoder.merge
        pyramid = decoder.pyramid
        lateral = list(pyramid.lateral)
        term: Term = graph_term if for_graph else PhasedTerm
        self.forms = decoder_forms(decoder)
        self.lateral = pyramid.lateral
        self.levels = nn.ModuleList(
            nn.Sequential(smoothing, branch)
            if form.name == "as written"
            else ComposedLevel(form, lateral[index:], smoothing, branch, term=term)
            for index, (form, smoothing, branch) in enumerate(
                zip(self.forms, pyramid.smoothing, decoder.branches, strict=True)
            )
        )
        self.to(lateral[0].weight.dtype)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Encoder maps, finest first, to the merged map (B, `channels` of the decoder, H_0, W_0)."""
        merged: list[Tensor] = []  # of the levels from `index` on
        outputs: list[Tensor] = []
        for index in reversed(range(len(maps))):
            level = self.levels[index]
            is_composed = isinstance(level, ComposedLevel)
            if is_composed:
                outputs.insert(0, level(maps[index:], merged))
            if index or not is_composed:
                own = self.lateral[index](maps[index])
                merged.insert(0, own + F.interpolate(merged[0], scale_factor=2.0, mode="nearest") if merged else own)
            if not is_composed:
                outputs.insert(0, level(merged[0]))
        return torch.cat(outputs, dim=1) if self.merge == "concat" else sum(outputs[1:], outputs[0])


def reassociate(decoder: FPNDecoder, *, for_graph: bool = False) -> nn.Module:
    """See `ReassociatedDecoder`; the decoder itself where no other form of any level is cheaper."""
    if all(form.name == "as written" for form in decoder_forms(decoder)):
        return decoder
    return ReassociatedDecoder(decoder, for_graph=for_graph)


def decoder_forms(decoder: FPNDecoder) -> list[Form]:
    """The cheapest form of each level of a decoder, finest first."""
    pyramid = decoder.pyramid
    channels = [_weight(conv).shape[1] for conv in pyramid.lateral]
    outputs, inputs = _weight(decoder.branches[0][0].conv).shape[:2]  # type: ignore[index]
    forms = [
        cheapest_form(
            channels[index:],
            pyramid_channels=inputs,
            segmentation_channels=outputs,
            smoothing=isinstance(smoothing, nn.Conv2d),
        )
        for index, smoothing in enumerate(pyramid.smoothing)
    ]
    return forms if pyramid.interpolation == "nearest" else [Form("as written", 0, form.macs) for form in forms]


def _weight(conv: nn.Module) -> Tensor:
    assert isinstance(conv, nn.Conv2d)
    return conv.weight.detach().double()


def _bias(conv: nn.Module) -> Tensor:
    assert isinstance(conv, nn.Conv2d)
    return conv.weight.new_zeros(conv.out_channels).double() if conv.bias is None else conv.bias.detach().double()
