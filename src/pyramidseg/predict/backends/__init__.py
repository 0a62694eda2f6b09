"""Backends: the runtimes that can compute a model, all behind one protocol."""

from pyramidseg.predict.backends.choice import BACKENDS, EXPORTED, make_backend
from pyramidseg.predict.backends.protocol import Backend, LogitGeometry, ModelBackend, RunPrecision
from pyramidseg.predict.backends.torch_backend import CompiledTorchBackend, TorchBackend

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
