"""Semantic segmentation with Feature Pyramid Networks: train, evaluate, predict.

    import pyramidseg as ps

    run = ps.train("dataset", out="run", encoder="resnet18")
    scores = ps.evaluate("run/best.safetensors", "dataset")
    result = ps.Predictor("run/best.safetensors").predict("image.jpg")

A public name is imported when it is first used, so that `import pyramidseg` and `pyramidseg --help` do not load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pyramidseg.base.version import __version__

if TYPE_CHECKING:
    from pyramidseg.base.classes import Classes
    from pyramidseg.base.config import Config
    from pyramidseg.base.defects import Defect, DefectError, DefectKind
    from pyramidseg.base.errors import (
        ConfigError,
        DataError,
        DeviceError,
        MissingExtra,
        OutputError,
        PyramidSegError,
        TrainingError,
        WeightsError,
    )
    from pyramidseg.base.log import Progress, configure_logging, report_progress
    from pyramidseg.base.overrides import load_config, make_config
    from pyramidseg.data.from_records import dataset_from_records
    from pyramidseg.data.records import Dataset, Record
    from pyramidseg.evaluation.metrics import Metrics, Scores
    from pyramidseg.evaluation.scoring import evaluate
    from pyramidseg.export.export_model import Export, export_model
    from pyramidseg.formats.convert_dataset import Conversion, convert_dataset
    from pyramidseg.formats.open_dataset import open_dataset
    from pyramidseg.inspection.inspect_dataset import Inspection, inspect_dataset
    from pyramidseg.model.imports import import_checkpoint
    from pyramidseg.model.imports.foreign_checkpoint import ImportedModel, ImportOptions
    from pyramidseg.model.segmenter import Segmenter, create_model, load_model
    from pyramidseg.predict.predict_files import predict_files
    from pyramidseg.predict.predictor import PredictionResult, Predictor
    from pyramidseg.predict.segmentation import Segmentation
    from pyramidseg.studies.benchmark_model import benchmark_model
    from pyramidseg.studies.benchmark_results import BenchmarkResult
    from pyramidseg.studies.comparison import Comparison, compare_encoders
    from pyramidseg.training.loop import Run, train

_MODULES = {
    "BenchmarkResult": "pyramidseg.studies.benchmark_results",
    "Classes": "pyramidseg.base.classes",
    "Comparison": "pyramidseg.studies.comparison",
    "Config": "pyramidseg.base.config",
    "ConfigError": "pyramidseg.base.errors",
    "Conversion": "pyramidseg.formats.convert_dataset",
    "DataError": "pyramidseg.base.errors",
    "Dataset": "pyramidseg.data.records",
    "Defect": "pyramidseg.base.defects",
    "DefectError": "pyramidseg.base.defects",
    "DefectKind": "pyramidseg.base.defects",
    "DeviceError": "pyramidseg.base.errors",
    "Export": "pyramidseg.export.export_model",
    "ImportOptions": "pyramidseg.model.imports.foreign_checkpoint",
    "ImportedModel": "pyramidseg.model.imports.foreign_checkpoint",
    "Inspection": "pyramidseg.inspection.inspect_dataset",
    "Metrics": "pyramidseg.evaluation.metrics",
    "MissingExtra": "pyramidseg.base.errors",
    "OutputError": "pyramidseg.base.errors",
    "PredictionResult": "pyramidseg.predict.predictor",
    "Predictor": "pyramidseg.predict.predictor",
    "Progress": "pyramidseg.base.log",
    "PyramidSegError": "pyramidseg.base.errors",
    "Record": "pyramidseg.data.records",
    "Run": "pyramidseg.training.loop",
    "Scores": "pyramidseg.evaluation.metrics",
    "Segmentation": "pyramidseg.predict.segmentation",
    "Segmenter": "pyramidseg.model.segmenter",
    "TrainingError": "pyramidseg.base.errors",
    "WeightsError": "pyramidseg.base.errors",
    "benchmark_model": "pyramidseg.studies.benchmark_model",
    "compare_encoders": "pyramidseg.studies.comparison",
    "configure_logging": "pyramidseg.base.log",
    "convert_dataset": "pyramidseg.formats.convert_dataset",
    "create_model": "pyramidseg.model.segmenter",
    "dataset_from_records": "pyramidseg.data.from_records",
    "evaluate": "pyramidseg.evaluation.scoring",
    "export_model": "pyramidseg.export.export_model",
    "import_checkpoint": "pyramidseg.model.imports",
    "inspect_dataset": "pyramidseg.inspection.inspect_dataset",
    "load_config": "pyramidseg.base.overrides",
    "load_model": "pyramidseg.model.segmenter",
    "make_config": "pyramidseg.base.overrides",
    "open_dataset": "pyramidseg.formats.open_dataset",
    "predict_files": "pyramidseg.predict.predict_files",
    "report_progress": "pyramidseg.base.log",
    "train": "pyramidseg.training.loop",
}
"""Module of each public name."""

__all__ = [
    "BenchmarkResult",
    "Classes",
    "Comparison",
    "Config",
    "ConfigError",
    "Conversion",
    "DataError",
    "Dataset",
    "Defect",
    "DefectError",
    "DefectKind",
    "DeviceError",
    "Export",
    "ImportOptions",
    "ImportedModel",
    "Inspection",
    "Metrics",
    "MissingExtra",
    "OutputError",
    "PredictionResult",
    "Predictor",
    "Progress",
    "PyramidSegError",
    "Record",
    "Run",
    "Scores",
    "Segmentation",
    "Segmenter",
    "TrainingError",
    "WeightsError",
    "__version__",
    "benchmark_model",
    "compare_encoders",
    "configure_logging",
    "convert_dataset",
    "create_model",
    "dataset_from_records",
    "evaluate",
    "export_model",
    "import_checkpoint",
    "inspect_dataset",
    "load_config",
    "load_model",
    "make_config",
    "open_dataset",
    "predict_files",
    "report_progress",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'pyramidseg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
