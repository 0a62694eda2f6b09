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
    from pyramidseg.base.classes import Classes as Classes
    from pyramidseg.base.config import Config as Config, DataConfig as DataConfig, LossConfig as LossConfig
    from pyramidseg.base.config import ModelConfig as ModelConfig, OptimConfig as OptimConfig
    from pyramidseg.base.config import TrainConfig as TrainConfig
    from pyramidseg.base.defects import Defect as Defect, DefectError as DefectError, DefectKind as DefectKind
    from pyramidseg.base.errors import ConfigError as ConfigError, DataError as DataError, DeviceError as DeviceError
    from pyramidseg.base.errors import MissingExtra as MissingExtra, OutOfMemory as OutOfMemory
    from pyramidseg.base.errors import OutputError as OutputError, PyramidSegError as PyramidSegError
    from pyramidseg.base.errors import TrainingError as TrainingError, WeightsError as WeightsError
    from pyramidseg.base.log import Progress as Progress, configure_logging as configure_logging
    from pyramidseg.base.log import report_progress as report_progress
    from pyramidseg.base.overrides import load_config as load_config, make_config as make_config
    from pyramidseg.data.from_records import dataset_from_records as dataset_from_records
    from pyramidseg.data.records import Dataset as Dataset, Record as Record
    from pyramidseg.evaluation.metrics import ClassMetrics as ClassMetrics, ImageScore as ImageScore, Metrics as Metrics
    from pyramidseg.evaluation.metrics import Scores as Scores
    from pyramidseg.evaluation.scoring import evaluate as evaluate
    from pyramidseg.export.export_model import Export as Export, export_model as export_model
    from pyramidseg.export.parity import Parity as Parity
    from pyramidseg.export.publish_model import publish_model as publish_model
    from pyramidseg.formats.convert_dataset import Conversion as Conversion, convert_dataset as convert_dataset
    from pyramidseg.formats.open_dataset import open_dataset as open_dataset
    from pyramidseg.images.scene import SceneOptions as SceneOptions
    from pyramidseg.inspection.inspect_dataset import Inspection as Inspection, inspect_dataset as inspect_dataset
    from pyramidseg.model.imports.foreign_checkpoint import ImportedModel as ImportedModel
    from pyramidseg.model.imports.foreign_checkpoint import ImportOptions as ImportOptions
    from pyramidseg.model.imports.smp import import_checkpoint as import_checkpoint
    from pyramidseg.model.segmenter import Segmenter as Segmenter, create_model as create_model
    from pyramidseg.model.segmenter import load_model as load_model
    from pyramidseg.predict.outputs.polygon_layers import PolygonOptions as PolygonOptions
    from pyramidseg.predict.predict_files import predict_files as predict_files
    from pyramidseg.predict.predict_videos import VideoOptions as VideoOptions
    from pyramidseg.predict.predictor import PredictionResult as PredictionResult, Predictor as Predictor
    from pyramidseg.predict.segmentation import Segmentation as Segmentation
    from pyramidseg.predict.summary_file import PredictionSummary as PredictionSummary
    from pyramidseg.predict.summary_file import merge_predictions as merge_predictions
    from pyramidseg.serve.client import Client as Client
    from pyramidseg.studies.benchmark_model import benchmark_model as benchmark_model
    from pyramidseg.studies.benchmark_results import BenchmarkResult as BenchmarkResult
    from pyramidseg.studies.compare_encoders import Comparison as Comparison, compare_encoders as compare_encoders
    from pyramidseg.studies.cross_validation import CrossValidation as CrossValidation, cross_validate as cross_validate
    from pyramidseg.studies.learning_curve import LabelCurve as LabelCurve, label_curve as label_curve
    from pyramidseg.training.loop import Run as Run
    from pyramidseg.training.segmentation_training import train as train

_NAMES = {
    "base.classes": "Classes",
    "base.config": "Config DataConfig LossConfig ModelConfig OptimConfig TrainConfig",
    "base.defects": "Defect DefectError DefectKind",
    "base.errors": "ConfigError DataError DeviceError MissingExtra OutOfMemory OutputError "
    "PyramidSegError TrainingError WeightsError",
    "base.log": "Progress configure_logging report_progress",
    "base.overrides": "load_config make_config",
    "data.from_records": "dataset_from_records",
    "data.records": "Dataset Record",
    "evaluation.metrics": "ClassMetrics ImageScore Metrics Scores",
    "evaluation.scoring": "evaluate",
    "export.export_model": "Export export_model",
    "export.parity": "Parity",
    "export.publish_model": "publish_model",
    "formats.convert_dataset": "Conversion convert_dataset",
    "formats.open_dataset": "open_dataset",
    "images.scene": "SceneOptions",
    "inspection.inspect_dataset": "Inspection inspect_dataset",
    "model.imports.foreign_checkpoint": "ImportOptions ImportedModel",
    "model.imports.smp": "import_checkpoint",
    "model.segmenter": "Segmenter create_model load_model",
    "predict.outputs.polygon_layers": "PolygonOptions",
    "predict.predict_files": "predict_files",
    "predict.predict_videos": "VideoOptions",
    "predict.predictor": "PredictionResult Predictor",
    "predict.segmentation": "Segmentation",
    "predict.summary_file": "PredictionSummary merge_predictions",
    "serve.client": "Client",
    "studies.benchmark_model": "benchmark_model",
    "studies.benchmark_results": "BenchmarkResult",
    "studies.compare_encoders": "Comparison compare_encoders",
    "studies.cross_validation": "CrossValidation cross_validate",
    "studies.learning_curve": "LabelCurve label_curve",
    "training.loop": "Run",
    "training.segmentation_training": "train",
}
"""Public names by module; a test compares them with the imports above, which only type checkers see."""

_MODULES = {name: f"pyramidseg.{module}" for module, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """Import a public name from its module at its first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'pyramidseg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
