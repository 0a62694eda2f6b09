"""An engine of TensorRT from an exported ONNX file of one size: does it give the bundle's labels, and how fast?

The same steps as in docs/export.md, by TensorRT's Python package (10 or later) on tensors of PyTorch.
"""

import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from benchmarks.gpu.wheels import ONLY_TENSORRT
from torch import Tensor

from pyramidseg.backends import TorchBackend
from pyramidseg.backends.metadata import INPUT, LOGITS
from pyramidseg.base.timing import alternate
from pyramidseg.export.export_model import export_model
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.segmentation import predict_labels
from pyramidseg.studies.benchmark_images import scene_images

ENCODERS = ("resnet18", "resnet50", "efficientnet_b0")
SIDE_PX, CLASSES, ROUNDS = 512, 19, 9


class Engine:
    """The engine of an ONNX file, which takes images (1, C, H, W) float32 in [0, 1] and gives logits (1, K, H, W).

    Raises:
        RuntimeError: TensorRT cannot read or build it.
    """

    def __init__(self, file: Path) -> None:
        import tensorrt as trt

        logger = trt.Logger(trt.Logger.WARNING)
        builder = trt.Builder(logger)
        # Multiplications in the precision of the file; TensorRT 11 knows nothing else.
        typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        network = builder.create_network(0 if typed is None else 1 << int(typed))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(file)):
            raise RuntimeError("; ".join(parser.get_error(number).desc() for number in range(parser.num_errors)))
        plan = builder.build_serialized_network(network, builder.create_builder_config())
        if plan is None:
            raise RuntimeError(f"TensorRT {trt.__version__} builds no engine from {file.name}")
        self._runtime = trt.Runtime(logger)  # the engine needs it
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        self._context = self._engine.create_execution_context()
        self._logits = torch.empty(tuple(self._engine.get_tensor_shape(LOGITS)), device="cuda")

    def __call__(self, images: Tensor) -> Tensor:
        images = images.contiguous()
        self._context.set_tensor_address(INPUT, images.data_ptr())
        self._context.set_tensor_address(LOGITS, self._logits.data_ptr())
        stream = torch.cuda.current_stream()
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("TensorRT could not run the engine")
        stream.synchronize()
        return self._logits


def measure_tensorrt(device: str) -> dict[str, Any]:
    """Labels and milliseconds of one image of 512x512, in fp32 and fp16, alternating with PyTorch."""
    absent = [name for name in ONLY_TENSORRT if find_spec(name) is None]
    if device == "cpu" or absent:
        return {"not run": f"needs a CUDA GPU and {', '.join(absent or ONLY_TENSORRT)}"}
    image = scene_images(1, channels=3, height=SIDE_PX, width=SIDE_PX).cuda()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for encoder in ENCODERS:
            torch.manual_seed(0)
            model = Segmenter(num_classes=CLASSES, encoder=encoder, encoder_weights="none").eval()
            bundle = Path(folder) / f"{encoder}.safetensors"
            model.save(bundle)
            torch_fp32 = TorchBackend(model, device="cuda", precision="fp32")
            expected = predict_labels(torch_fp32, image)
            for precision in ("fp32", "fp16"):
                how = {"size": (SIDE_PX, SIDE_PX), "input_dtype": "float32"}
                export = export_model(bundle, format="onnx", precision=precision, **how)  # type: ignore[arg-type]
                if export.path is None:
                    raise RuntimeError(f"{encoder} {precision}: {export.parity and export.parity.findings()}")
                engine, pixels = Engine(export.path), image.float() / 255
                same = (engine(pixels).argmax(1) == expected).double().mean().item()
                calls = {"TensorRT": partial(engine, pixels), "PyTorch fp32": partial(torch_fp32.coarse_logits, image)}
                timings = alternate(calls, rounds=ROUNDS, warmup=2, device=image.device)
                times = ", ".join(f"{name} {timing.milliseconds:.2f} ms" for name, timing in timings.items())
                found[f"{encoder} {precision}"] = f"{100 * same:.3f} % of PyTorch's labels in fp32; {times}"
    return found
