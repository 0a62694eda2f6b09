"""A stand-in of the Hugging Face hub on loopback, which is read and written by its real client."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "hf_write"


class MadeHub:
    """One repository, `owner/street`, once it is `created`.

    Attributes:
        kind: `models` or `datasets`.
        contents: of each commit, by name.
        commits: by branch.
        asked: method and path of each request.
        large: of a file from so many bytes on, its content is sent apart (LFS).
        refuse: status and words by the beginning of a path.
    """

    def __init__(self, address: str) -> None:
        self.address, self.created, self.large, self.kind = address, True, 100_000, "models"
        self.contents: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.refuse: dict[str, tuple[int, str]] = {}
        self.private: str | None = None
        self.messages: list[str] = []
        self._objects: dict[str, bytes] = {}

    def get(self, path: str) -> tuple[dict[str, str], bytes | None]:
        """Headers and body."""
        parts = path.partition("?")[0].removeprefix("/datasets").strip("/").split("/")
        if parts[:5] == ["api", self.kind, "owner", "street", "tree"]:
            files = self.contents[parts[5]].items()
            rows = [{"type": "file", "path": name, "size": len(body), "oid": name} for name, body in files]
            return {}, json.dumps(rows).encode()
        if parts[:4] == ["api", self.kind, "owner", "street"] and self.created:
            commit = self.commits.get(parts[5] if len(parts) > 4 else "main")
            commit = commit or (parts[5] if len(parts) > 5 and parts[5] in self.contents else None)
            if commit:
                siblings = [{"rfilename": name} for name in self.contents[commit]]
                info = {"id": "owner/street", "sha": commit, "siblings": siblings, "private": self.private == "private"}
                return {}, json.dumps(info).encode()
        elif parts[:3] == ["owner", "street", "resolve"]:
            body = self.contents.get(parts[3], {}).get("/".join(parts[4:]))
            tag = hashlib.sha256(body).hexdigest() if body is not None else ""
            return {"X-Repo-Commit": parts[3], "ETag": f'"{tag}"'}, body
        return {}, None

    def post(self, path: str, body: bytes) -> object:
        """The answer of what a request wrote; None for an unknown path."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            assert (asked["organization"], asked["name"]) == ("owner", "street")
            if not self.created:
                self.private = asked.get("visibility")
                self.created, self.commits, self.contents = (
                    True,
                    {"main": "0" * 40},
                    {"0" * 40: {".gitattributes": b""}},
                )
            return {"url": f"{self.address}/owner/street"}
        if path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            return {"warnings": [], "errors": []}
        if path == "/api/models/owner/street/preupload/main":
            files = json.loads(body)["files"]
            modes = [(file["path"], "lfs" if file["size"] >= self.large else "regular") for file in files]
            return {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]}
        if path == "/owner/street.git/info/lfs/objects/batch":
            objects = [
                entry | {"actions": {"upload": {"href": f"{self.address}/lfs/{entry['oid']}"}}}
                for entry in json.loads(body)["objects"]
            ]
            return {"objects": objects}
        if path == "/api/models/owner/street/commit/main":
            return self._commit([json.loads(line) for line in body.splitlines()])
        if path.startswith("/lfs/"):
            oid = hashlib.sha256(body).hexdigest()
            assert path == f"/lfs/{oid}"
            self._objects[oid] = body
            return {}
        return None

    def _commit(self, lines: list[dict[str, dict[str, str]]]) -> object:
        head, old = lines[0]["value"], self.commits["main"]
        assert lines[0]["key"] == "header" and head["parentCommit"] == old
        self.messages.append(head["summary"])
        contents = dict(self.contents[old])
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "lfsFile":
                contents[value["path"]] = self._objects[value["oid"]]
            else:
                contents[value["path"]] = base64.b64decode(value["content"])
        commit = hashlib.sha1(old.encode(), usedforsecurity=False).hexdigest()
        self.commits["main"], self.contents[commit] = commit, contents
        return {"commitUrl": f"{self.address}/owner/street/commit/{commit}", "commitOid": commit}


@contextmanager
def made_hub(cache: Path, monkeypatch) -> Iterator[MadeHub]:
    """A stand-in that the client in this process uses, with an empty cache and the token that may write."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self):
            hub.asked.append((self.command, self.path))
            status, (headers, body) = 200, hub.get(self.path)
            if body is None:
                headers, body, status = {"X-Error-Code": "RepoNotFound"}, b"", 404
            self.answer(status, headers, body)

        do_HEAD = do_GET

        def do_POST(self):
            hub.asked.append((self.command, self.path))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, words = next((value for start, value in hub.refuse.items() if self.path.startswith(start)), (0, ""))
            if not self.path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, words = 401, "Invalid username or password."
            found = {"error": words} if status else hub.post(self.path, body)
            kind = {"Content-Type": "application/json"}
            self.answer(status or (404 if found is None else 200), kind, json.dumps(found).encode())

        do_PUT = do_POST

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = MadeHub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    constants = {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_TOKEN_PATH": str(cache / "token"),
    }
    for name, value in constants.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
