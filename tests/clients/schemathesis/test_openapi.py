"""schemathesis draws requests from the OpenAPI document, valid ones and others, and checks the answers against it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("schemathesis", reason="make test-clients")

from made_server import server_process, small_bundle

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
NAMES = '[parameters]\n"path.name" = "street"\n"path.version" = "1"\n'


@pytest.mark.parametrize("names", ["", NAMES], ids=["any names", "the model's name"])
def test_answers_are_those_of_the_document(tmp_path, names):
    """No status 500, and status, media type and content of each answer are documented."""
    (tmp_path / "schemathesis.toml").write_text(names)
    bundle = small_bundle(tmp_path / "street.safetensors")
    program = Path(sys.executable).with_name("schemathesis")
    with server_process(bundle, "--device", "cpu", "-q") as (url, _):
        options = ["--max-examples", "15", "--seed", "1", "--no-color", "--phases", "fuzzing", "--checks", CHECKS]
        options += ["--suppress-health-check", "all", "--request-timeout", "60"]
        command = [program, "run", f"{url}/openapi.json", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-1000:]
    assert "20 passed" in done.stdout
