"""Semantic segmentation with Feature Pyramid Networks: train, evaluate, predict.

    import pyramidseg as ps

    run = ps.train("dataset", out="run", encoder="resnet18")
    scores = ps.evaluate("run/best.safetensors", "dataset")
    result = ps.Predictor("run/best.safetensors").predict("image.jpg")

The names below load torch and timm when they are first used, so that `import pyramidseg` and `pyramidseg --help` stay
fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Classes": "pyramidseg.classes",
    "Config": "pyramidseg.config",
    "Dataset": "pyramidseg.data.records",
    "Predictor": "pyramidseg.predict.predictor",
    "Record": "pyramidseg.data.records",
    "Segmenter": "pyramidseg.model.segmenter",
    "benchmark_model": "pyramidseg.benchmark.measuring",
    "evaluate": "pyramidseg.evaluation.scoring",
    "inspect_dataset": "pyramidseg.data.inspection.inspect",
    "train": "pyramidseg.training.loop",
}

__all__ = [
    "Classes",
    "Config",
    "Dataset",
    "Predictor",
    "Record",
    "Segmenter",
    "benchmark_model",
    "evaluate",
    "inspect_dataset",
    "train",
]

if TYPE_CHECKING:
    from pyramidseg.benchmark.measuring import benchmark_model
    from pyramidseg.classes import Classes
    from pyramidseg.config import Config
    from pyramidseg.data.inspection.inspect import inspect_dataset
    from pyramidseg.data.records import Dataset, Record
    from pyramidseg.evaluation.scoring import evaluate
    from pyramidseg.model.segmenter import Segmenter
    from pyramidseg.predict.predictor import Predictor
    from pyramidseg.training.loop import train


def __getattr__(name: str) -> Any:
    """Load a public name from its module at its first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'pyramidseg' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
