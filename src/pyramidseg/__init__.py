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
        OutOfMemory,
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

_NAMES = {
    "base.classes": "Classes",
    "base.config": "Config",
    "base.defects": "Defect DefectError DefectKind",
    "base.errors": "ConfigError DataError DeviceError MissingExtra OutOfMemory OutputError "
    "PyramidSegError TrainingError WeightsError",
    "base.log": "Progress configure_logging report_progress",
    "base.overrides": "load_config make_config",
    "data.from_records": "dataset_from_records",
    "data.records": "Dataset Record",
    "evaluation.metrics": "Metrics Scores",
    "evaluation.scoring": "evaluate",
    "export.export_model": "Export export_model",
    "formats.convert_dataset": "Conversion convert_dataset",
    "formats.open_dataset": "open_dataset",
    "inspection.inspect_dataset": "Inspection inspect_dataset",
    "model.imports": "import_checkpoint",
    "model.imports.foreign_checkpoint": "ImportOptions ImportedModel",
    "model.segmenter": "Segmenter create_model load_model",
    "predict.predict_files": "predict_files",
    "predict.predictor": "PredictionResult Predictor",
    "predict.segmentation": "Segmentation",
    "studies.benchmark_model": "benchmark_model",
    "studies.benchmark_results": "BenchmarkResult",
    "studies.comparison": "Comparison compare_encoders",
    "training.loop": "Run train",
}
"""Public names by module; a test compares them with `__all__`."""

_MODULES = {name: f"pyramidseg.{module}" for module, names in _NAMES.items() for name in names.split()}

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
    "OutOfMemory",
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
