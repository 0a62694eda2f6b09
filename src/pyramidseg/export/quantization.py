"""Quantisation to int8 by ONNX Runtime, in a graph that OpenVINO runs, too, and the gate that such files have to pass.

Activations have 8 bits, with a range and a zero of their own; weights have 8, or 7 (`TARGETS`), with a scale per output
channel (Jacob et al. 2018, arXiv 1712.05877). The ranges are the least and greatest values on the calibration images.
Normalisation, classifier and upsampling stay in float. The decoder is quantised as written: with composed
layers (`model.reassociation`) ResNet-18 takes 1.05 times as long in OpenVINO and 1.3 times in ONNX Runtime, and
EfficientNet-lite0 1.0 and 1.3 times (512x512, two Zen 5 cores). While the predictions differ too much, blocks go back
to float, the most harmful first; a file that is not faster than its runtime in fp32 or bf16 on this machine is refused.
"""

import copy
import logging
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyramidseg.backends.exported_backend import ExportedBackend, as_input, check_target
from pyramidseg.backends.metadata import COARSE, INPUT, ExportMetadata, Program, Quantization
from pyramidseg.backends.onnx_backend import prune_outputs
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError, import_extra
from pyramidseg.base.files import file_sha256
from pyramidseg.base.log import track
from pyramidseg.base.timing import alternate
from pyramidseg.export import parity
from pyramidseg.export.parity import Parity
from pyramidseg.export.samples import WINDOW_PX, windows
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.scene_windows import scene_of, window_at
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.input_images import load_image

if TYPE_CHECKING:
    import onnx

logger = logging.getLogger(__name__)

DEFAULT_IMAGES, SEED, TIMED_ROUNDS, SEARCH_IMAGES = 64, 0, 9, 4
"""The last two: rounds that speed is measured in, and calibration images that the harm of a block is measured on."""

WITH_WEIGHTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
OPERATIONS = (*WITH_WEIGHTS, "Add", "Clip", "Concat", "MaxPool", "Relu", "Resize")
"""What is computed in int8. If it were convolutions alone, their outputs would be rounded before ReLU or Clip, and most
of the range spent on values that these remove: EfficientNet-lite0 on CamVid loses 13 points of mIoU that way."""


def check_calibration(
    precision: str, calibrate: str | Path | None, images: int, target: str, program: Program | None
) -> None:
    """Refuse options of int8 without it, or int8 without images.

    Raises:
        ConfigError: names the option, and what it needs.
    """
    given = {
        "calibrate": calibrate is not None,
        "calibration_images": images != DEFAULT_IMAGES,
        "target": target != "any",
    }
    if precision != "int8" and (unused := [name for name, is_given in given.items() if is_given]):
        raise ConfigError(
            f"`{unused[0]}`: is for `precision='int8'` only, whose files have neither `size` nor `output`; leave it "
            "out, or add `precision='int8'`"
        )
    if precision == "int8" and calibrate is None:
        raise ConfigError(
            "`precision=int8`: needs `calibrate=DATASET`, images (split train) to measure ranges of activations on"
        )
    if precision == "int8" and program is not None:
        raise ConfigError("`precision=int8`: is for files of any size with logits; leave `size` and `output` out")
    check_target(target, "")


class Calibration:
    """Images drawn from the train split of a dataset, none with the content of an image of the gate."""

    def __init__(
        self, model: Segmenter, dataset: str | Path, data: DataConfig, count: int, *, dtype: str, gate: Sequence[Path]
    ) -> None:
        if count < 1:
            raise ConfigError(f"`calibration_images={count}`: choose a number from 1")
        opened = open_dataset(dataset, data, fallback_classes=model.classes)
        shuffled = random.Random(SEED).sample(opened.split("train"), len(opened.split("train")))  # noqa: S311
        checksum = cache(file_sha256)  # windows of a scene are told apart by their place in it

        def content_key(path: Path) -> tuple[object, ...]:
            return checksum(scene_of(path)), *(window_at(path) or ())[1:]

        others = {content_key(path) for path in gate}
        unused = (record for record in shuffled if content_key(record.image) not in others)
        if not (records := list(islice(unused, count))):
            raise DataError(
                f"`calibrate={dataset}`: all images of its split train are also those that the file is checked on; "
                "give other images with `calibrate` or `check`"
            )
        self.dataset, self.records, self._dtype = Path(opened.source).name, records, dtype
        self._channels = opened.bands or model.settings.channels

    def read(self) -> Iterator[NDArray[Any]]:
        """Every image, (1, C, H, W), as it is given to the model in prediction; a large one in windows."""
        for record in self.records:
            found = load_image(record.image, channels=self._channels)
            image = torch.from_numpy(np.ascontiguousarray(found)).permute(2, 0, 1)[None]
            if self._dtype not in ("float32", str(found.dtype)):
                raise DataError(
                    f"{record.image}: is {found.dtype}, and the file is made for {self._dtype}; export "
                    "with `input_dtype='float32'`, which takes all types"
                )
            for window, _ in windows(image, None, WINDOW_PX):
                yield as_input(window, self._dtype, record.image).numpy()


class Quantizer:
    """Writes a graph in int8, all of it or without some of its `blocks`, which are given with their nodes."""

    def __init__(self, graph: "onnx.ModelProto", calibration: Calibration, *, target: str) -> None:
        self._runtime = import_extra("onnxruntime", extra="onnx", purpose="exporting to int8")
        import onnx

        self.graph = onnx.shape_inference.infer_shapes(graph)
        self.calibration, self._target = calibration, target
        self.blocks, self._float = _blocks(self.graph)

    def describe(self, float_blocks: Sequence[str]) -> Quantization:
        """For the metadata of a file."""
        name, images = f"onnxruntime {self._runtime.__version__}", tuple(item.id for item in self.calibration.records)
        return Quantization(name, self._target, self.calibration.dataset, SEED, images, tuple(float_blocks))

    def quantize(self, float_blocks: Sequence[str]) -> "onnx.ModelProto":
        """The graph in int8 but for these blocks."""
        from onnxruntime.quantization import QDQQuantizer, QuantType

        quantizer = QDQQuantizer(
            copy.deepcopy(self.graph),
            per_channel=True,
            reduce_range=self._target != "vnni",
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[*self._float, *(node for block in float_blocks for node in self.blocks[block])],
            op_types_to_quantize=list(OPERATIONS),
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        content: onnx.ModelProto = quantizer.model.model
        del content.graph.value_info[:]
        return content

    def most_harmful(self, float_blocks: Sequence[str]) -> tuple[str, float]:
        """The block whose int8 changes logits most (found by halving, on calibration images), and its share of that."""
        candidates = [block for block in self.blocks if block not in float_blocks]
        before = error = self._error(float_blocks)
        while len(candidates) > 1:
            halves = candidates[: len(candidates) // 2], candidates[len(candidates) // 2 :]
            error, candidates = min((self._error([*float_blocks, *half]), half) for half in halves)
        return candidates[0], (before - error) / before if before else 0.0

    def write_until_close(
        self,
        staged: Path,
        metadata: ExportMetadata,
        floats: "onnx.ModelProto",
        *,
        backend: type[ExportedBackend],
        device: str,
        compare: Callable[[], Parity],
    ) -> tuple["onnx.ModelProto", ExportMetadata, Parity]:
        """Write the file until it is close enough; what it holds, its metadata, and its comparison with the bundle.

        Args:
            floats: the graph that int8 has to be faster than.
        """
        plain = staged.with_stem(f"{staged.stem}-float")
        backend.save(floats, plain, replace(metadata, precision="fp32"))
        others = [backend(plain, device=device)]
        if not backend.fixed_precision and backend.computed_precision("bf16", device) == "bf16":
            others.append(backend(plain, device=device, precision="bf16"))
        image, float_blocks = torch.from_numpy(next(self.calibration.read())), list[str]()
        while True:
            content = self.quantize(float_blocks)
            metadata = replace(metadata, quantization=self.describe(float_blocks))
            backend.save(content, staged, metadata)
            int8, found = backend(staged, device=device), compare()
            calls = {file: partial(file.run, image) for file in (int8, *others)}
            times = alternate(calls, rounds=TIMED_ROUNDS, warmup=2)
            fastest = min(others, key=lambda file: times[file].median)
            ratio, figures = times[fastest].ratio_to(times[int8]), [times[it].milliseconds for it in (int8, fastest)]
            against = f"{fastest.name} {fastest.precision} here ({figures[0]:.1f} ms against {figures[1]:.1f} ms)"
            logger.info(f"int8, {len(float_blocks)} blocks in float: {ratio:.2f} times as fast as {against}")
            if not found.findings() or ratio < parity.MIN_SPEEDUP or len(float_blocks) == len(self.blocks):
                return content, metadata, replace(found, speedup=ratio, speedup_against=against)
            block, share = self.most_harmful(float_blocks)
            logger.info(f"{'; '.join(found.findings())}: {block}, {share:.0%} of the error, goes back to float")
            float_blocks.append(block)

    def _error(self, float_blocks: Sequence[str]) -> float:
        found = self._logits(self.quantize(float_blocks))
        return float(np.mean([np.square(a - b).mean() for a, b in zip(found, self._expected, strict=True)]))

    @cached_property
    def _expected(self) -> list[NDArray[Any]]:
        """The logits in float."""
        return self._logits(copy.deepcopy(self.graph))

    def _logits(self, content: "onnx.ModelProto") -> list[NDArray[Any]]:
        prune_outputs(content, (COARSE,))
        session = self._runtime.InferenceSession(content.SerializeToString(), providers=["CPUExecutionProvider"])
        images = islice(self.calibration.read(), SEARCH_IMAGES)
        return [session.run([COARSE], {INPUT: image})[0] for image in images]

    @cached_property
    def _ranges(self) -> Any:
        """Least and greatest value of every activation; nothing else is kept of an image."""
        import onnx
        from onnxruntime.quantization import create_calibrator

        content = copy.deepcopy(self.graph)
        prune_outputs(content, (COARSE,))
        with tempfile.TemporaryDirectory(prefix="pyramidseg-int8-") as folder:
            source = Path(folder) / "graph.onnx"
            onnx.save(content, source)
            calibrator = create_calibrator(source, list(OPERATIONS), str(source.with_stem("ranges")))
            images = track(self.calibration.read(), total=len(self.calibration.records), task="calibrating")
            inputs = ({INPUT: image} for image in images)
            calibrator.collect_data(SimpleNamespace(get_next=lambda: next(inputs, None)))
            return calibrator.compute_data()


def _blocks(model: "onnx.ModelProto") -> tuple[dict[str, list[str]], list[str]]:
    """Nodes that can be in int8 by block, and those that stay in float.

    A block is the module of a layer with weights, such as `encoder.network.layer1.0`, and what follows without weights.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    blocks: dict[str, list[str]] = {}
    kept, block, last = [], "input", {COARSE}
    for node in model.graph.node:
        if node.op_type in WITH_WEIGHTS and node.input[1] in weights:
            path = node.input[1].removeprefix("model.").split(".")
            block = ".".join(path[: max(1, len(path) - 2)])
        if last.intersection((*node.input, *node.output)):
            last.update(node.output)
            kept.append(node.name)
        elif node.op_type in OPERATIONS:
            blocks.setdefault(block, []).append(node.name)
    return blocks, kept
