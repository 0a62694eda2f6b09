"""The package of ONNX Runtime Web: downloaded once, verified, and named where it is missing. No test downloads it."""

import functools
import io
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pyramidseg.base.errors import DataError
from pyramidseg.cli.main import main
from pyramidseg.export import web, web_runtime


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_package_that_cannot_be_had_is_named_with_its_place(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "find_browser", lambda: "chromium")
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/npm")
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(tmp_path / "cache"))
    assert run("export", bundle, "--format", "web", "--out", tmp_path / "site") == 2
    error = capsys.readouterr().err
    place = tmp_path / "cache" / web_runtime.PACKAGE
    assert f"127.0.0.1:9/npm/onnxruntime-web/-/{web_runtime.PACKAGE}: cannot be read" in error
    assert f"npm pack onnxruntime-web@{web_runtime.VERSION}, and copy it to {place}" in error
    assert error.count("\n") == 1
    place.parent.mkdir()
    place.write_bytes(b"another file")
    assert run("export", bundle, "--format", "web", "--out", tmp_path / "site") == 2
    assert f"{place.as_uri()}: is not onnxruntime-web {web_runtime.VERSION}" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_a_downloaded_package_is_verified_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member in web_runtime.FILES.values():
            entry = tarfile.TarInfo(f"package/dist/{member}")
            entry.size = len(member)
            archive.addfile(entry, io.BytesIO(member.encode()))
    stored = tmp_path / "registry" / "onnxruntime-web" / "-" / web_runtime.PACKAGE
    stored.parent.mkdir(parents=True)
    stored.write_bytes(content.getvalue())
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "registry"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(DataError, match="as its SHA-256 differs"):
            web_runtime.runtime_files()
        assert not (tmp_path / "cache").exists()
        monkeypatch.setattr(web_runtime, "SHA256", web_runtime.hashlib.sha256(content.getvalue()).hexdigest())
        first = web_runtime.runtime_files()
        server.shutdown()
    assert first == {name: member.encode() for name, member in web_runtime.FILES.items()}
    assert web_runtime.runtime_files() == first  # from the cache: nothing serves it


def test_one_file_may_not_have_the_name_of_a_folders_page(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("export", bundle, "--format", "web", "--out", tmp_path / "site" / "index.html") == 2
    assert f"give the folder, --out {tmp_path / 'site'}, or" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()
