"""Programs of `torch.export` as a backend: `.pt2` files, without this library's model code."""

import hashlib
import io
import json
import re
import zipfile
import zlib
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from pyramidseg.backends.exported import ExportedBackend, Outputs, damaged, require_file
from pyramidseg.backends.metadata import CHECKSUM, COARSE, LOGITS, ExportMetadata
from pyramidseg.backends.protocol import SMALLER, RunPrecision
from pyramidseg.base.device import choose_device, memory_explained
from pyramidseg.base.errors import ConfigError, WeightsError

CARD_FILE, CHECKSUM_FILE = "pyramidseg.json", "pyramidseg.sha256"
"""Names of our entries among a program's extra files: the card, and the checksum over all entries but itself."""

ENTRIES = re.compile(
    r"[^/]+/(data/weights/weight_\d+|data/constants/tensor_\d+|(?P<config>data/(weights|constants)/\w+_config\.json)"
    r"|(?P<sample>data/sample_inputs/\w+\.pt)|models/\w+\.json|extra/[\w.]+|archive_\w+|byteorder|\.data/\w+)"
)
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
"""What reading a damaged archive, an encrypted one, or text that is none raises."""

TENSORS = re.compile(r"(weight|tensor)_\d+")
"""All that a program of tensors and operations is made of, by name; what else there may be in such files is code."""


class ExportedTorchBackend(ExportedBackend):
    """A program of `torch.export`, run by torch.

    Raises:
        WeightsError: no such file, damaged, not exported by this library, or holding pickled objects.
        DeviceError: the device is not on this machine.
        ConfigError: a precision that is not the file's.
    """

    name = "torch-exported"
    suffix = ".pt2"
    format = "torch"

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
        outputs: Outputs = (COARSE,),
    ) -> None:
        place = choose_device(device) if isinstance(device, str) else device
        path = Path(model)
        content, card = read_verified(path)
        if precision not in ("auto", card.precision):
            raise ConfigError(
                f"precision={precision}: {path} was exported in {card.precision}, which is fixed in a .pt2 file; "
                "leave precision out"
            )
        self._describe(path, card, precision=card.precision, device=place, computing_device=place, place=str(place))
        try:
            program = torch.export.load(io.BytesIO(content))
            if place.type != "cpu":
                program = move_to_device_pass(program, place)
        except Exception as error:  # the reader and the graph's parser raise their own kinds
            raise damaged(path, error) from None
        with memory_explained(SMALLER):
            self._program = _pruned(program.module(), outputs)
        self._outputs = outputs

    @classmethod
    def read_texts(cls, path: Path) -> dict[str, str]:
        """The metadata of a file."""
        with read_archive(path) as archive:
            return texts_of(path, archive)

    @classmethod
    def read_card(cls, path: Path) -> ExportMetadata:
        """What a file says of itself."""
        return read_verified(path)[1]

    @classmethod
    def check_device(cls, device: str | torch.device) -> None:
        """Refuse a device that torch does not have here."""
        choose_device(str(device))

    @torch.inference_mode()
    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The chosen outputs, on the backend's device."""
        with memory_explained(SMALLER):
            values = dict(zip((LOGITS, COARSE), self._program(self.accepted(images).to(self.device)), strict=True))
        return {name: values[name] for name in self._outputs}


def read_verified(path: Path) -> tuple[bytes, ExportMetadata]:
    """The bytes of a `.pt2` file that is as it was exported and runs no code of its own when it is loaded; its card.

    `torch.export.load` unpickles what such a file marks as pickled, without restraint, and opens compiled libraries in
    it. Ours holds neither; its example image is a pickle of tensors only. (What torch makes of the symbolic sizes in
    the graph is out of our hands: run the files of strangers in another format.)

    Raises:
        WeightsError: no such file, damaged, not exported by this library, or holding pickled objects.
    """
    with read_archive(path) as archive:
        try:
            checksum = checksum_of_archive(archive)
        except UNREADABLE as error:
            raise damaged(path, error) from None
        card = ExportMetadata.from_texts(texts_of(path, archive), path, checksum=checksum)
        for name in archive.namelist():
            _refuse_pickles(path, name, archive)
        assert isinstance(archive.fp, io.BytesIO)
        return archive.fp.getvalue(), card


def read_archive(path: Path) -> zipfile.ZipFile:
    """A `.pt2` file in memory.

    Raises:
        WeightsError: no such file, or no archive.
    """
    require_file(path, ".pt2")
    try:
        return zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    except UNREADABLE as error:
        raise damaged(path, error) from None


def texts_of(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """Our metadata of a `.pt2` file; none if it is not ours."""
    extra = {name.partition("/extra/")[2]: name for name in archive.namelist()}
    if CARD_FILE not in extra:
        return {}
    try:
        stored = json.loads(archive.read(extra[CARD_FILE]))
        checksum = {CHECKSUM: archive.read(extra[CHECKSUM_FILE]).decode()} if CHECKSUM_FILE in extra else {}
    except UNREADABLE as error:
        raise damaged(path, error) from None
    return {str(name): str(text) for name, text in stored.items()} | checksum if isinstance(stored, dict) else {}


def checksum_of_archive(archive: zipfile.ZipFile) -> str:
    """SHA-256 over names and contents of all entries, the checksum aside.

    Raises:
        ValueError: two entries have one name, so that it depends on the reader which of them counts.
    """
    names = sorted(archive.namelist())
    if len(set(names)) != len(names):
        raise ValueError("it has two entries of one name")
    digest = hashlib.sha256()
    for name in names:
        if not name.endswith(f"/extra/{CHECKSUM_FILE}"):
            content = archive.read(name)
            digest.update(json.dumps([name, len(content)]).encode())
            digest.update(content)
    return digest.hexdigest()


def _refuse_pickles(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    kind = ENTRIES.fullmatch(name)
    harmless = kind is not None
    if kind and kind["config"]:
        harmless = _names_tensors(archive.read(name))
    elif kind and kind["sample"]:
        harmless = _only_tensors(archive.read(name))
    if not harmless:
        raise WeightsError(
            f"{path}: {name} in it is more than tensors and a graph, and could run any code; it is not loaded"
        )


def _names_tensors(config: bytes) -> bool:
    """Whether a list of entries is one, and marks none as pickled."""
    try:
        entries = json.loads(config)["config"].values()
        return all(entry["use_pickle"] is False and TENSORS.fullmatch(entry["path_name"]) for entry in entries)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _only_tensors(content: bytes) -> bool:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # of junk the unpickler raises whatever it runs into
        return False
    return True


def _pruned(program: nn.Module, outputs: Outputs) -> nn.Module:
    """The program without what these outputs do not need: another one stands in the place of an output cut off."""
    if set(outputs) == {LOGITS, COARSE}:
        return program
    assert len(outputs) == 1 and isinstance(program, torch.fx.GraphModule)
    node = next(node for node in program.graph.nodes if node.op == "output")
    values = dict(zip((LOGITS, COARSE), node.args[0], strict=True))
    node.args = ((values[outputs[0]],) * 2,)
    program.graph.eliminate_dead_code()
    program.recompile()
    return program
