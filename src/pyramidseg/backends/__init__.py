"""Backends: PyTorch, ONNX Runtime, OpenVINO and torch.export behind one protocol.

A new runtime is one module with a subclass of `ExportedBackend`, and an entry in `BACKENDS` and `EXPORTED`
(`factory.py`); tests/backends/test_contract.py then checks it.
"""

from pyramidseg.backends.factory import BACKENDS, EXPORTED, make_backend
from pyramidseg.backends.protocol import Backend, LogitGeometry, ModelBackend, RunPrecision
from pyramidseg.backends.torch_backend import CompiledTorchBackend, TorchBackend

__all__ = [
    "BACKENDS",
    "EXPORTED",
    "Backend",
    "CompiledTorchBackend",
    "LogitGeometry",
    "ModelBackend",
    "RunPrecision",
    "TorchBackend",
    "make_backend",
]
