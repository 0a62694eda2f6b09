"""The Slurm script of the documentation, run as an array would run it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from campaigns.made_inputs import make_images, make_model

DOCS = Path(__file__).parents[2] / "docs" / "clusters.md"


@pytest.mark.skipif(sys.platform == "win32", reason="bash")
def test_the_documented_slurm_script(tmp_path):
    scripts = re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (script,) = (script for script in scripts if "SLURM_ARRAY_TASK_ID" in script)
    (tmp_path / "predict.sh").write_text(script)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in (("srun", '"$@"'), ("pyramidseg", f'"{sys.executable}" -m pyramidseg "$@"')):
        (programs / name).write_text(f"#!/bin/bash\nexec {command}\n")
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "MODEL": str(make_model(tmp_path / "model.safetensors")),
        "IMAGES": str(make_images(tmp_path / "images", 12)),
        "OUT": str(tmp_path / "out"),
        "SLURM_ARRAY_TASK_COUNT": "2",
    }
    started = [
        subprocess.Popen(["bash", tmp_path / "predict.sh"], env={**environment, "SLURM_ARRAY_TASK_ID": number})
        for number in ("1", "2")
    ]
    assert [process.wait(120) for process in started] == [0, 0]
    assert len(list((tmp_path / "out").glob("?/*.png"))) == 12
    assert not (tmp_path / "out" / "predictions.json").exists()
    from pyramidseg.cli.main import main

    assert main(["predictions", "merge", str(tmp_path / "out")]) == 0
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]) == 12
    assert len(list((tmp_path / "out" / "ledger").iterdir())) == 2
