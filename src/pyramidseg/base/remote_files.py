"""Files behind URLs (`s3://`, `gs://`, `https://` ...): the only module that opens them, through fsspec.

A remote file is copied into a local folder before it is read, and written locally before it is uploaded: object stores
replace an object as a whole, so a killed process leaves no half-written one.
"""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from pyramidseg.base.errors import ConfigError, DataError, MissingExtra, OutputError, PyramidSegError, import_extra
from pyramidseg.base.files import digest, write_atomically
from pyramidseg.base.text import first_few

logger = logging.getLogger(__name__)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HUB = re.compile(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?")
_HUB_DATASET = re.compile(r"hf:/+datasets/([\w.-]+/[\w.-]+)(?:@([^/]+))?/*")  # a `Path` has one slash

HUB_BUNDLE = "model.safetensors"
"""Name of the bundles that are published, by the convention of the hub."""

CACHE_VARIABLE = "PYRAMIDSEG_CACHE"


class RemoteFile(NamedTuple):
    """An object of a store.

    Attributes:
        url: complete, with its protocol.
        size: in bytes; -1 if the server does not say.
        stamp: changes with the content: the ETag, or the time of the last change; empty if the server has neither.
    """

    url: str
    size: int
    stamp: str


def is_url(name: object) -> bool:
    """Whether a name is a URL with a protocol, and not a path; `Path` objects never are."""
    return isinstance(name, str) and _URL.match(name) is not None


def url_name(url: str) -> str:
    """A URL without its protocol and query: `bucket/folder/a.png`."""
    return url.partition("://")[2].partition("?")[0] if url.startswith("http") else url.partition("://")[2]


def cache_folder() -> Path | None:
    """The user's folder of copies: `$XDG_CACHE_HOME/pyramidseg`, or its counterpart on macOS and Windows.

    The environment variable PYRAMIDSEG_CACHE names another folder. None if it is `off`, or if the user has no home.
    """
    setting = os.environ.get(CACHE_VARIABLE, "")
    if setting:
        return None if setting.lower() == "off" else Path(setting)
    try:
        home = Path.home()
    except RuntimeError:  # a container's user without a home
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "pyramidseg" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "pyramidseg"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "pyramidseg"


def fetch(url: str, target: Path) -> Path:
    """Copy a remote file to a local path, which is returned.

    Raises:
        DataError: it does not exist or cannot be read.
        MissingExtra: a package for its protocol is not installed.
    """
    with _explained(url, DataError):
        files, path = _open(url)
        files.get_file(path, str(target))
    return target


def local_copy(file: str | Path) -> Path:
    """A path as it is; for a URL, a copy in the user's cache folder, which is used as long as the file stays the same.

    `hf://OWNER/NAME[@REVISION][/FILE]` is copied to the cache of the Hugging Face hub, by commit; FILE may be left out
    if the repository has one bundle.

    Without a cache folder the copy is kept until the process ends. Next to OpenVINO's `.xml`, its `.bin` is copied too.

    Raises:
        DataError: it does not exist or cannot be read.
        MissingExtra: a package for its protocol is not installed.
    """
    if not is_url(file):
        return Path(file)
    url = str(file)
    if hub := _HUB.fullmatch(url):
        return _copy_from_hub(url, *hub.groups())
    if (found := remote_info(url)) is None:
        raise DataError(f"{url}: no such file")
    home = cache_folder() or Path(_temporary_folder().name)
    copy = home / "files" / digest([url, found.size, found.stamp])[:32] / url_name(url).rpartition("/")[2]
    if not (found.stamp and copy.is_file()):  # without a stamp, it may have changed
        for suffix in (".bin", ".xml") if copy.suffix == ".xml" else (copy.suffix,):
            logger.info(f"copying {url} to {copy.parent}")
            write_atomically(copy.with_suffix(suffix), partial(fetch, url.removesuffix(copy.suffix) + suffix))
    return copy


def _copy_from_hub(url: str, repository: str, revision: str | None, name: str | None) -> Path:
    from huggingface_hub import HfApi  # takes a second

    with _explained(url, DataError):
        found = HfApi().model_info(repository, revision=revision)
        bundles = [file.rfilename for file in found.siblings or () if file.rfilename.endswith(".safetensors")]
        if name is None and len(bundles) != 1:
            listed = ", ".join(bundles)[:200] or "none"
            raise DataError(f"{url}: one bundle is needed, and the repository has {listed}; write {url}/FILE")
        name, commit = name or bundles[0], found.sha
        if name.endswith(".xml"):
            HfApi().hf_hub_download(repository, name.removesuffix("xml") + "bin", revision=commit)
        return Path(HfApi().hf_hub_download(repository, name, revision=commit))


def dataset_copy(source: str | Path) -> Path:
    """A path as it is; for `hf://datasets/OWNER/NAME[@REVISION]`, a folder of the user's cache with its files.

    Files are copied once for each commit; without a cache folder they are kept until the process ends.

    Raises:
        DataError: it does not exist or cannot be read.
    """
    if (hub := _HUB_DATASET.fullmatch(str(source))) is None:
        return Path(source)
    from huggingface_hub import HfApi  # takes a second

    with _explained(f"hf://datasets/{hub[1]}", DataError):
        commit = HfApi().dataset_info(hub[1], revision=hub[2]).sha
        copy = (cache_folder() or Path(_temporary_folder().name)) / "hub" / f"{hub[1].replace('/', '--')}--{commit}"
        logger.info(f"copying hf://datasets/{hub[1]} to {copy}")
        return Path(HfApi().snapshot_download(hub[1], repo_type="dataset", revision=commit, local_dir=copy))


def commit_to_hub(url: str, bundle: Path, card: str, *, mark: str, private: bool) -> str:
    """Commit a bundle and a README.md to a repository, which is created if it does not exist; returns the commit.

    Args:
        mark: a README.md without it is not replaced.

    Raises:
        ConfigError: `url` does not name a repository, or no token is set.
        OutputError: the hub cannot be reached or refuses it, or the repository has another bundle or README.md.
    """
    hub = _HUB.fullmatch(url)
    if hub is None or hub[2] or hub[3]:
        raise ConfigError(f"{url}: has to be a repository of the Hugging Face hub, hf://OWNER/NAME")
    from huggingface_hub import CommitOperationAdd, HfApi, get_token  # takes a second

    if get_token() is None:
        raise ConfigError(f"{url}: set HF_TOKEN to a token of the hub that may write, or log in with `hf auth login`")
    with _explained(url, OutputError):
        api, repository = HfApi(), hub[1]
        api.create_repo(repository, private=private or None, exist_ok=True)
        found = api.model_info(repository)
        if private and not found.private:
            raise OutputError(f"{url}: exists and is public; choose another repository, or make it private on the hub")
        names = [file.rfilename for file in found.siblings or ()]
        if others := [name for name in names if name.endswith(".safetensors") and name != HUB_BUNDLE]:
            raise OutputError(
                f"{url}: has {first_few(others)} already, so the URL would not name one bundle; choose another"
            )
        if mark and "README.md" in names:
            old = Path(api.hf_hub_download(repository, "README.md", revision=found.sha))
            if mark not in old.read_text(encoding="utf-8", errors="replace"):
                raise OutputError(f"{url}: has a README.md of others; `overwrite=True` replaces it")
        files = [CommitOperationAdd(HUB_BUNDLE, str(bundle)), CommitOperationAdd("README.md", card.encode())]
        message = f"Publish {bundle.name} with pyramidseg"
        return api.create_commit(repository, files, commit_message=message, parent_commit=found.sha).oid


@cache
def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="pyramidseg-")


def upload(file: Path, url: str) -> RemoteFile:
    """Copy a local file to a URL, where it appears as a whole.

    Raises:
        OutputError: the server refuses it.
        MissingExtra: a package for its protocol is not installed.
    """
    with _explained(url, OutputError):
        files, path = _open(url)
        files.put_file(str(file), path)
        files.invalidate_cache()
        return _remote_file(url, files.info(path))


def remote_info(url: str) -> RemoteFile | None:
    """A file's properties; None if it does not exist or is a folder.

    Raises:
        DataError: the server refuses to say.
    """
    with _explained(url, DataError):
        files, path = _open(url)
        try:
            found = files.info(path)
        except FileNotFoundError:
            return None
        return None if found.get("type") == "directory" else _remote_file(url, found)


def list_remote(url: str) -> list[RemoteFile]:
    """The files below a URL and its subfolders, or those that match it if it has wildcards; sorted.

    Raises:
        DataError: the server refuses to list them.
    """
    with _explained(url, DataError):
        files, path = _open(url)
        files.invalidate_cache()
        found = files.glob(path, detail=True) if "*" in path else files.find(path, detail=True)
        protocol = url.partition("://")[0]
        return sorted(
            _remote_file(name if is_url(name) else f"{protocol}://{name.removeprefix('/')}", entry)
            for name, entry in found.items()
            if entry.get("type") != "directory"
        )


def _open(url: str) -> tuple[Any, str]:
    fsspec = import_extra("fsspec", extra="remote", purpose=f"opening {url}")
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:  # s3fs, aiohttp or gcsfs
        library = next((name for name in ("s3fs", "gcsfs", "aiohttp") if name in str(error)), str(error))
        if library == "gcsfs":
            raise DataError(f"{url}: needs gcsfs, which is not installed: pip install gcsfs") from None
        raise MissingExtra(library, extra="remote", purpose=f"opening {url}") from None
    return files, str(path)


def _remote_file(url: str, info: dict[str, Any]) -> RemoteFile:
    stamps = (info.get(name) for name in ("ETag", "etag", "LastModified", "last_modified", "mtime", "created"))
    stamp = next((stamp for stamp in stamps if stamp), "")
    size = info.get("size")
    stamp = stamp.timestamp() if isinstance(stamp, datetime) else stamp  # listings and single answers differ in type
    return RemoteFile(url, -1 if size is None else int(size), str(stamp))


@contextmanager
def _explained(url: str, kind: type[DataError] | type[OutputError]) -> Iterator[None]:
    """Turn every exception of a client library into one line: each protocol has its own types."""
    try:
        yield
    except (PyramidSegError, MemoryError):
        raise
    except FileNotFoundError:
        raise kind(f"{url}: no such file, folder or bucket") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        action = "read" if kind is DataError else "written"
        raise kind(
            f"{url}: cannot be {action}: {reason}; check the address, the network and the credentials"
        ) from error
