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

from pyramidseg.base.version import __version__

_HOME = {
    "Classes": "pyramidseg.base.classes",
    "Config": "pyramidseg.base.config",
    "Dataset": "pyramidseg.data.records",
    "Predictor": "pyramidseg.predict.predictor",
    "Record": "pyramidseg.data.records",
    "Segmenter": "pyramidseg.model.segmenter",
    "benchmark_model": "pyramidseg.studies.benchmark_model",
    "create_model": "pyramidseg.model.segmenter",
    "dataset_from_records": "pyramidseg.data.from_records",
    "evaluate": "pyramidseg.evaluation.scoring",
    "inspect_dataset": "pyramidseg.inspection.inspect_dataset",
    "load_model": "pyramidseg.model.segmenter",
    "train": "pyramidseg.training.loop",
}

__all__ = [
    "Classes",
    "Config",
    "Dataset",
    "Predictor",
    "Record",
    "Segmenter",
    "__version__",
    "benchmark_model",
    "create_model",
    "dataset_from_records",
    "evaluate",
    "inspect_dataset",
    "load_model",
    "train",
]

if TYPE_CHECKING:
    from pyramidseg.base.classes import Classes
    from pyramidseg.base.config import Config
    from pyramidseg.data.from_records import dataset_from_records
    from pyramidseg.data.records import Dataset, Record
    from pyramidseg.evaluation.scoring import evaluate
    from pyramidseg.inspection.inspect_dataset import inspect_dataset
    from pyramidseg.model.segmenter import Segmenter, create_model, load_model
    from pyramidseg.predict.predictor import Predictor
    from pyramidseg.studies.benchmark_model import benchmark_model
    from pyramidseg.training.loop import train


def __getattr__(name: str) -> Any:
    """Load a public name from its module at its first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'pyramidseg' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
