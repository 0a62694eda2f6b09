"""Backends: the runtimes that can compute a model, all behind one protocol."""

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
