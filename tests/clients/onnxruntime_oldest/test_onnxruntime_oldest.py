"""The oldest ONNX Runtime that docs/export.md names: files of the opsets that are said to run in it do."""

from pathlib import Path

import numpy as np
import pytest

from made_exports import bundle, traced_once
from mobile_checks import IMAGE, IMAGES
from pyramidseg.base.errors import WeightsError
from pyramidseg.export.export_model import export_model
from pyramidseg.predict.predictor import Predictor

pytest.importorskip("coloredlogs", reason="make test-clients with Python 3.11")  # which later versions do not need
onnxruntime = pytest.importorskip("onnxruntime")  # by this, as Python warns of its source

__all__ = ["bundle", "traced_once"]

pytestmark = pytest.mark.filterwarnings("default")  # of the library


def labels_of(bundle: Path) -> np.ndarray:
    return Predictor(bundle, backend="torch", device="cpu").predict(IMAGE).labels


def test_images_of_any_size_in_the_lowest_opset(bundle: Path, tmp_path: Path) -> None:
    """Its check, at many sizes, runs in this version."""
    assert onnxruntime.__version__ == "1.15.0"
    export = export_model(bundle, format="onnx", out=tmp_path, opset=18)
    assert export.parity is not None and export.parity.findings() == ()
    assert (Predictor(export.path).predict(IMAGE).labels == labels_of(bundle)).mean() > 0.9999


@pytest.mark.parametrize("output", ["logits", "labels", "probabilities"])
def test_images_of_one_size_in_the_lowest_opset(bundle: Path, tmp_path: Path, output: str) -> None:
    export = export_model(
        bundle, format="onnx", out=tmp_path, opset=14, size=(72, 104), input_dtype="float32", output=output
    )
    assert export.path is not None, export.parity
    session = onnxruntime.InferenceSession(str(export.path))  # as another program opens it
    (found,) = session.run(None, {"images": IMAGES[:1]})
    found = found if output == "labels" else found.argmax(1)
    assert (found[0] == labels_of(bundle)).mean() > 0.9999


def test_the_default_opset_needs_a_later_version(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="ValidateOpsetForDomain"):
        export_model(bundle, format="onnx", out=tmp_path)
    assert list(tmp_path.iterdir()) == []
