"""What holds for the files of every format for phones: another program's labels, metadata, options, messages."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import WeightsError
from pyramidseg.base.files import file_sha256
from pyramidseg.cli.main import main
from pyramidseg.demo.scenes import draw_scene
from pyramidseg.export.export_model import export_model
from pyramidseg.model.segmenter import load_model
from pyramidseg.predict.predictor import Predictor

IMAGE = draw_scene(4, height=72, width=104).image
IMAGES = np.ascontiguousarray(np.stack([IMAGE, IMAGE[::-1]]).transpose(0, 3, 1, 2) / np.float32(255))
"""As apps give them to a file: float32 in [0, 1]."""

Run = Callable[[Path, NDArray[np.float32]], NDArray[np.generic]]
"""Runs a file as an app does, without this library: its only output for images (B, C, H, W)."""


def check_outputs(format: str, suffix: str, bundle: Path, run: Run, folder: Path) -> None:
    """Logits, labels and probabilities of another program are those of the bundle."""
    with torch.inference_mode():
        expected = load_model(bundle).eval()(torch.from_numpy(IMAGES)).numpy()
    labels = expected.argmax(1)
    for output, batch in (("logits", 2), ("labels", 1), ("probabilities", 1)):
        export = export_model(bundle, format=format, out=folder, size=(72, 104), batch_size=batch, output=output)
        parts = ["best-72x104", *(["b2"] if batch == 2 else []), *([output] if output != "logits" else [])]
        assert export.path == folder / f"{'-'.join(parts)}{suffix}"
        found = run(export.path, IMAGES[:batch])
        if output == "labels":
            assert found.shape == (1, 72, 104)
            assert np.issubdtype(found.dtype, np.integer)
            assert (found == labels[:1]).mean() > 0.9999
            continue
        assert (found.argmax(1) == labels[:batch]).mean() > 0.9999
        exact = expected if output == "logits" else torch.from_numpy(expected[:1]).softmax(1).numpy()
        np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


def check_command(format: str, suffix: str, bundle: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing of the libraries is printed; metadata are next to the file; `predict` names the bundle."""
    model = folder / "model.safetensors"
    model.write_bytes(bundle.read_bytes())
    command = ["export", str(model), "--format", format, "--size", "72x104"]
    assert main(command) == 0
    printed = capfd.readouterr()
    file = folder / f"model-72x104{suffix}"
    assert f"file: {file}" in printed.out.splitlines()
    assert all(line.startswith((str(model), "checking on", "warning: ")) for line in printed.err.splitlines()), (
        printed.err
    )
    known = json.loads((folder / f"{file.name}.json").read_text())
    assert (known["format"], known["sha256"]) == ("pyramidseg export", file_sha256(file))
    assert json.loads(known["input"])["shape"] == [1, 3, 72, 104]
    assert Classes.from_dict(json.loads(known["classes"])) == load_model(bundle).classes
    cv2.imwrite(str(folder / "a.png"), IMAGE)
    with pytest.raises(WeightsError, match="is an export for other programs; give the bundle that it was made from"):
        Predictor(file)
    assert "torch" in Predictor(model, device="cpu").backend.name
    assert main(command) == 0  # replaces its own file
    (folder / f"{file.name}.json").unlink()
    file.write_bytes(b"of somebody else")
    capfd.readouterr()
    assert main(command) == 2
    assert "exists and was not exported by pyramidseg" in capfd.readouterr().err
    assert file.read_bytes() == b"of somebody else"
