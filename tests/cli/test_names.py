"""File names that are not UTF-8, long, or hold control characters, through the commands that write pages and tables."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyramidseg.base.errors import OutputError
from pyramidseg.base.overrides import make_config
from pyramidseg.cli.main import main
from pyramidseg.training.run_folder import open_run

BUNDLE = Path(__file__).parents[1] / "compatibility" / "files" / "trained.safetensors"
NAMES = (b"latin\xe9", "漢字 é".encode(), b"x" * 251, b"new\nline", b"esc\x1b[31m", b"100%25", b"a.b.c", b"-dash")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / os.fsdecode(b"d\xe9s")
    for split in ("train", "val"):
        for kind, shape, high in (("images", (40, 50, 3), 256), ("masks", (40, 50), 3)):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for name in NAMES:
                file = os.fsdecode(split[:1].encode() + name[1:] + b".png")
                Image.fromarray(rng.integers(0, high, shape, np.uint8)).save(folder / file)
    return root


def test_inspection_and_its_proposal(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(dataset), "--out", str(tmp_path / "first")]) == 0
    assert json.loads((tmp_path / "first" / "inspection.json").read_bytes())["source"] == str(dataset)
    assert main(["inspect", str(tmp_path / "first" / "dataset.yaml"), "--out", str(tmp_path / "second")]) == 0
    assert "train: 8 images" in capsys.readouterr().out
    page = (tmp_path / "first" / "inspection.html").read_text(encoding="utf-8")
    assert "\x1b" not in page and "\\udce9" in page


def test_prediction_writes_a_map_for_each(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / os.fsdecode(b"r\xe9n")
    assert main(["predict", str(BUNDLE), str(dataset / "val" / "images"), "--out", str(out)]) == 0
    entries = json.loads((out / "predictions.json").read_bytes())["images"]
    stems = {os.fsencode(Path(entry["image"]).stem) for entry in entries}
    assert stems == {b"v" + name[1:] for name in NAMES}
    assert all((out / entry["outputs"]["mask"]).is_file() for entry in entries)


def test_a_run_whose_name_tensorboard_cannot_write_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"TensorBoard needs a path in UTF-8 without control characters"):
        open_run(tmp_path / os.fsdecode(b"r\xe9n"), make_config({}), resume=False, overwrite=False)
