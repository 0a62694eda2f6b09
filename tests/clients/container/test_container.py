"""The container without Docker: the steps of the Dockerfile run in a virtual environment, its command serves."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
import yaml

from pyramidseg.base.classes import Classes
from pyramidseg.cli.main import parse
from pyramidseg.cli.serve import model_names
from pyramidseg.model.segmenter import Segmenter

ROOT = Path(__file__).parents[3]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
ENVIRONMENT = "/opt/pyramidseg"
USER = 10001

pytestmark = [
    pytest.mark.filterwarnings("default"),  # of libraries
    pytest.mark.skipif(
        sys.platform != "linux" or os.geteuid() != 0, reason="needs root on Linux, as docker build does"
    ),
]

IS_CLIENT = Path(sys.prefix).parent.name == ".venv-clients"


def instructions() -> list[tuple[str, str]]:
    """Instructions and arguments; continued lines are joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first stage builds, except that torch is the one of the project's own environment."""
    work = tmp_path_factory.mktemp("container")
    source, target = work / "source", work / "opt"
    source.mkdir()
    done = set()
    # pip does not install uv where the project's environment below this one has it.
    with_uv = os.environ | {"PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"}
    for name, arguments in instructions():
        if name == "COPY" and "--from" not in arguments:
            *paths, place = arguments.split()
            for path in paths:
                folder = source / place if place != "./" else source
                destination = folder if (ROOT / path).is_dir() else folder / Path(path).name
                destination.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-rT", ROOT / path, destination], check=True)
        elif name == "RUN" and "useradd" not in arguments:
            step = arguments.replace(ENVIRONMENT, str(target)).replace("python -m pip", f"{sys.executable} -m pip")
            if "--torch-backend" in step:
                packages = Path(torch.__file__).parents[1]
                (file,) = target.glob("lib/python*/site-packages")
                for found in packages.glob("*"):
                    if re.match(r"(torch|torchvision|triton|nvidia|cuda)", found.name, re.I):
                        (file / found.name).symlink_to(found)
                done.add("torch")
                continue
            if step.startswith("python -m venv"):
                step = step.replace("python", sys.executable, 1)
            subprocess.run(step, shell=True, check=True, cwd=source, timeout=600, env=with_uv)
    assert done == {"torch"}
    return target


@pytest.mark.skipif(not IS_CLIENT, reason="make test-clients: packages are installed from a registry")
def test_the_command_serves_writes_only_to_tmp_and_stops_in_order(environment: Path, tmp_path: Path) -> None:
    model = Segmenter(encoder="resnet18", encoder_weights="none", classes=Classes.from_names(["road", "sky"]))
    model.save(tmp_path / "best.safetensors")
    by_name = dict(instructions())
    home = tmp_path / "tmp"
    home.mkdir()
    variables = dict(part.split("=", 1) for part in shlex.split(by_name["ENV"]))
    variables = {key: value.replace("/tmp", str(home)) for key, value in variables.items()}
    variables["PATH"] = f"{environment}/bin:{os.environ['PATH']}"
    command = [*yaml.safe_load(by_name["ENTRYPOINT"]), *yaml.safe_load(by_name["CMD"])]
    command = [part.replace("/models/", f"{tmp_path}/") for part in command]
    before = set(environment.rglob("*"))
    server = subprocess.Popen(
        [f"{environment}/bin/{command[0]}", *command[1:]],
        env={**variables, "PYRAMIDSEG_TOKEN": "secret"},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        check = yaml.safe_load(by_name["HEALTHCHECK"].partition("CMD ")[2])
        for _ in range(240):
            if subprocess.run(check, env=variables, capture_output=True, check=False).returncode == 0:
                break
            assert server.poll() is None, server.stdout and server.stdout.read()
            time.sleep(0.5)
        else:
            raise AssertionError("not healthy within two minutes")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen("http://127.0.0.1:8000/models")
        request = urllib.request.Request("http://127.0.0.1:8000/models", headers={"Authorization": "Bearer secret"})
        assert b'"road"' in urllib.request.urlopen(request).read()
        server.send_signal(signal.SIGTERM)
        assert server.wait(40) == 0
    finally:
        server.kill()
    assert set(environment.rglob("*")) == before


@pytest.mark.skipif(not IS_CLIENT, reason="make test-clients: hadolint is installed from a registry")
def test_hadolint_has_no_warnings_of_the_dockerfile() -> None:
    hadolint = Path(sys.prefix) / "bin" / "hadolint"
    found = subprocess.run([hadolint, "--failure-threshold", "warning", DOCKERFILE], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_user_and_files_of_compose_and_kubernetes_agree_with_the_image() -> None:
    by_name = dict(instructions())
    assert by_name["USER"] == str(USER) and f"--uid {USER}" in DOCKERFILE.read_text()
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    service = compose["services"]["pyramidseg"]
    assert service["read_only"] and service["build"]["dockerfile"] == "deploy/Dockerfile"
    deployment, kubernetes_service = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == USER and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["ports"][0]["containerPort"] == int(by_name["EXPOSE"])
    assert container["args"][0] == yaml.safe_load(by_name["CMD"])[0] == "serve"
    assert kubernetes_service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    versions = set((ROOT / "deploy" / "torch.txt").read_text().split("\n")[:2])
    assert versions <= {line.split(" ")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()}


def test_the_examples_for_kserve_agree_with_the_image_and_the_command() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    service, fetched = [block for block in blocks if "kserve" in block.get("apiVersion", "") or "args" in block]
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["name"] == "kserve-container" and container["ports"][0]["containerPort"] == 8080
    mounted = {volume["name"] for volume in service["spec"]["predictor"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == mounted
    for args in (container["args"], fetched["args"]):
        parsed = parse(args)
        assert (parsed.command, parsed.host, parsed.port) == ("serve", "0.0.0.0", 8080)
        assert list(model_names(parsed.models)) == ["street"]
    assert fetched["env"] == [{"name": "STORAGE_URI", "value": "hf://OWNER/NAME"}]
