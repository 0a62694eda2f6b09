"""segmentation_models.pytorch (SMP): its FPN as users run it, and as well as it can be run without changing it.

From pixels to label map each: its normalisation of ImageNet encoders and the argmax count, as they do for everyone.

Legend: B batch, C channels, H W pixels, K classes.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from pyramidseg.backends.openvino_backend import shared_core
from pyramidseg.base.device import has_fast_bf16
from pyramidseg.model.encoder_weights import IMAGENET_MEAN, IMAGENET_STD

Predict = Callable[[Tensor], Tensor]
"""(B, C, H, W) uint8 images on the CPU to (B, H, W) labels."""

OWN_NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")

OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16"}


def smp_name(encoder: str) -> str:
    """SMP's name of timm's encoder: the same network, with the same tensors."""
    return encoder if encoder in OWN_NAMES else f"tu-{encoder}"


def build_peer(encoder: str, classes: int) -> nn.Module:
    """Its FPN with its defaults and random weights, the same each time."""
    torch.manual_seed(0)
    model: nn.Module = smp.FPN(smp_name(encoder), encoder_weights=None, classes=classes)
    return model


def load_peer(weights: Path, encoder: str, classes: int) -> nn.Module:
    """The one whose weights were saved, in evaluation mode."""
    model = build_peer(encoder, classes)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def normalized(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 to float32, by the statistics that its encoders want."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.float() / 255 - mean) / std


def as_users_run_it(model: nn.Module, device: torch.device) -> Predict:
    """Eager, contiguous tensors, float32."""
    model = model.to(device)

    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        logits: Tensor = model(normalized(images.to(device)))
        return logits.argmax(dim=1)

    return predict


def tuned(model: nn.Module, device: torch.device, *, compiled: bool = False) -> Predict:
    """channels_last and, where it is fast, bf16 autocast; compiled where asked for."""
    model = model.to(device, memory_format=torch.channels_last)
    network = torch.compile(model) if compiled else model

    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        image = normalized(images.to(device)).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bf16(device)):
            logits: Tensor = network(image)
        return logits.argmax(dim=1)

    return predict


def export_to_onnx(model: nn.Module, path: Path, *, side_px: int) -> None:
    """torch's exporter with its defaults, for images of one size, which runtimes like best, and any batch."""
    example = torch.zeros(2, 3, side_px, side_px)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    program.save(str(path))


def in_onnx_runtime(path: Path, device: torch.device) -> Predict:
    """Its ONNX file in ONNX Runtime, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    provider = "CUDAExecutionProvider" if device.type == "cuda" else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(str(path), options, providers=[provider])

    def predict(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": normalized(images).numpy()})
        return torch.from_numpy(logits).argmax(dim=1)

    return predict


def in_openvino(path: Path, precision: str) -> Predict:
    """Its ONNX file in OpenVINO on the CPU, with as many threads as torch has."""
    core = shared_core()
    options = {
        "INFERENCE_PRECISION_HINT": OPENVINO_TYPES[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
    }
    compiled = core.compile_model(core.read_model(path), "CPU", options)

    def predict(images: Tensor) -> Tensor:
        logits = compiled.infer_new_request([normalized(images).numpy()])[0]
        return torch.from_numpy(logits).argmax(dim=1)

    return predict
