"""Label Studio itself, started for the tests of tests/clients/label_studio, and its API."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

TOKEN = "0123456789abcdef0123456789abcdef01234567"
USER, PASSWORD = "user@example.com", "a-password"
START_SECONDS = 300
"""The first start makes the database."""


class LabelStudio:
    """A running server; `files` is its document root for local files."""

    def __init__(self, url: str, files: Path) -> None:
        self.url, self.files = url, files

    def call(self, method: str, path: str, body: object = None) -> bytes:
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + path, data, headers, method=method), timeout=100) as answer:
            return answer.read()

    def json(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self.call(method, path, body))

    def project(self, written: Path) -> int:
        """A project with the labelling config and the tasks of all splits in a folder, and the served images."""
        content = {"title": "project", "label_config": (written / "label_config.xml").read_text(encoding="utf-8")}
        project = self.json("POST", "/api/projects", content)["id"]
        storage = {"project": project, "path": str(self.files / "images"), "use_blob_urls": True}
        self.json("POST", "/api/storages/localfiles", storage)
        for tasks in sorted(written.glob("*.json")):
            made = json.loads(tasks.read_text(encoding="utf-8"))
            assert self.json("POST", f"/api/projects/{project}/import", made)["task_count"] == len(made)
        return project

    def tasks(self, project: int) -> list[dict[str, Any]]:
        listed = self.json("GET", f"/api/tasks?project={project}&page_size=100")["tasks"]
        return [self.json("GET", f"/api/tasks/{task['id']}") for task in listed]

    def export(self, project: int, kind: str) -> bytes:
        return self.call("GET", f"/api/projects/{project}/export?exportType={kind}")


@contextmanager
def label_studio_process(folder: Path) -> Iterator[LabelStudio]:
    """Label Studio on loopback with a database of its own, without telemetry.

    It refuses ML backends and webhooks on loopback unless two settings allow them.
    """
    (folder / "files" / "images").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(folder / "files"),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "0",
        "LATEST_VERSION_CHECK": "0",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }
    command = [Path(sys.executable).with_name("label-studio"), "start", "--no-browser", "--data-dir", folder / "data"]
    command += ["--internal-host", "127.0.0.1", "--port", port, "--user-token", TOKEN]
    command += ["--username", USER, "--password", PASSWORD]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=os.environ | settings, stdout=log, stderr=log, text=True
        )
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
            while not _answers(url):
                assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-3000:]
                time.sleep(0.5)
            yield LabelStudio(url, folder / "files")
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=5):
            return True
    except (URLError, OSError):
        return False
