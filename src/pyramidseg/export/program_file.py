"""Files for programs that this library does not run: one size, or labels instead of logits, in an ONNX file.

Classic OpenCV, TensorRT and the compilers of many accelerators take only graphs without computed sizes. `predict` needs
a file of any size that gives logits; it refuses these.

Legend: B batch, C channels, H W pixels, K classes.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.metadata import INPUT, LOGITS, Program
from pyramidseg.backends.onnx_backend import OnnxRuntimeBackend
from pyramidseg.base.classes import IGNORE
from pyramidseg.export.parity import Parity, check_parity
from pyramidseg.export.samples import Sample, Samples
from pyramidseg.model.segmenter import Segmenter


class WithOutput(nn.Module):
    """A graph with one output in place of its own two: logits, labels (B, H, W) uint8, or probabilities."""

    def __init__(self, both: nn.Module, output: str) -> None:
        super().__init__()
        self.both, self.output = both, output

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.both(images)[0]
        if self.output == "labels":
            return logits.argmax(dim=1).to(torch.uint8)
        return logits.softmax(dim=1) if self.output == "probabilities" else logits


class ProgramFile(ExportedBackend):
    """Runs such a file for its check; its output is turned into logits with the same labels."""

    runs_programs = True

    def __init__(self, path: Path, program: Program) -> None:
        super().__init__(path, device="cpu", outputs=(program.output,))
        self.own, self.outputs, self.batch = program.output, (LOGITS,), program.batch

    @abstractmethod
    def output(self, images: Tensor) -> Tensor:
        """The output, on the CPU."""

    def run(self, images: Tensor) -> dict[str, Tensor]:
        found = self.output(images)
        if self.own == "labels":
            found = nn.functional.one_hot(found.long(), len(self.classes)).permute(0, 3, 1, 2).float()
        return {LOGITS: found.clamp_min(1e-38).log() if self.own == "probabilities" else found}


class OnnxProgramFile(ProgramFile, OnnxRuntimeBackend):
    """An ONNX file in ONNX Runtime."""

    def output(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.program.run([self.own], {INPUT: self.to_input(images).numpy()})[0])


def check_program_file(backend: ProgramFile, program: Program, segmenter: Segmenter, samples: Samples) -> Parity:
    """Compare a file with its bundle, on samples that are `at_program_size`."""
    parity = check_parity(backend, segmenter, samples, predicting=backend)
    return parity if program.output == LOGITS else replace(parity, largest_difference=math.nan)


def at_program_size(samples: Samples, program: Program | None) -> Samples:
    """Samples of the size and the batch that a file takes."""
    if program is None or program.size is None:
        return samples
    (crop, _), *_ = _at_size(iter([(samples.crops[-1][:1], None)]), program)
    name = f"{samples.name}, at {program.size[0]}x{program.size[1]} in batches of {program.batch}"
    return replace(samples, name=name, whole=lambda: _at_size(samples.whole(), program), crops=(crop,))


def _at_size(samples: Iterator[Sample], program: Program) -> Iterator[Sample]:
    """Images cut, or continued with their last row and column, to the size, each repeated to fill the batch."""
    assert program.size is not None
    for images, labels in samples:
        rows, columns = (np.arange(side) for side in program.size)
        height, width = images.shape[-2:]
        place = np.ix_(np.minimum(rows, height - 1), np.minimum(columns, width - 1))
        cut = images.numpy()[..., place[0], place[1]]
        truth = None
        if labels is not None:
            inside = (rows < height)[:, None] & (columns < width)
            truth = np.where(inside, labels.numpy()[..., place[0], place[1]], IGNORE).astype(np.uint8)
        for index in range(len(cut)):
            yield (
                torch.from_numpy(np.stack([cut[index]] * program.batch)),
                None if truth is None else torch.from_numpy(np.stack([truth[index]] * program.batch)),
            )
