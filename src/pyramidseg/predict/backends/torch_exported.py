"""Programs of `torch.export` as a backend: `.pt2` files, without this library's model code."""

import io
import json
import pickle
import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from pyramidseg.errors import ConfigError, WeightsError
from pyramidseg.predict.backends.card import COARSE, LOGITS, Card
from pyramidseg.predict.backends.exported import ExportedBackend, Outputs, damaged, require_file
from pyramidseg.predict.backends.protocol import SMALLER, RunPrecision
from pyramidseg.runtime import choose_device, memory_explained

CARD_FILE = "pyramidseg.json"
"""Name of our entry among a program's extra files."""

ENTRIES = re.compile(
    r"[^/]+/(data/weights/weight_\d+|data/constants/tensor_\d+|(?P<config>data/(weights|constants)/\w+_config\.json)"
    r"|(?P<sample>data/sample_inputs/\w+\.pt)|models/\w+\.json|extra/[\w.]+|archive_\w+|byteorder|\.data/\w+)"
)
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
        content = read_archive(path)
        card = Card.from_texts(read_texts(path, content), path)
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
    def read_card(cls, path: Path) -> Card:
        """What a file says of itself."""
        return Card.from_texts(read_texts(path, read_archive(path)), path)

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


def read_archive(path: Path) -> bytes:
    """The bytes of a `.pt2` file that is whole and runs no code of its own when it is loaded.

    `torch.export.load` unpickles what such a file marks as pickled, without restraint, and opens compiled libraries in
    it. Ours holds neither; its example image is a pickle of tensors only. (What torch makes of the symbolic sizes in
    the graph is out of our hands: run the files of strangers in another format.)

    Raises:
        WeightsError: no such file, damaged, or holding pickled objects.
    """
    require_file(path, ".pt2")
    content = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if (broken := archive.testzip()) is not None:
                raise damaged(path, f"the checksum of {broken} does not match its content")
            if len(set(names)) != len(names):
                raise damaged(path, "it has two entries of one name")
            for name in names:
                _refuse_pickles(path, name, archive)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise (error if isinstance(error, WeightsError) else damaged(path, error)) from None
    return content


def read_texts(path: Path, content: bytes) -> dict[str, str]:
    """Our metadata of a `.pt2` file; none if it is not ours."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [name for name in archive.namelist() if name.endswith(f"/extra/{CARD_FILE}")]
        try:
            stored = json.loads(archive.read(entries[0])) if entries else {}
        except ValueError as error:
            raise damaged(path, error) from None
    return {str(name): str(text) for name, text in stored.items()} if isinstance(stored, dict) else {}


def _refuse_pickles(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    kind = ENTRIES.fullmatch(name)
    harmless = kind is not None
    if kind and kind["config"]:
        entries = json.loads(archive.read(name))["config"].values()
        harmless = all(not entry["use_pickle"] and TENSORS.fullmatch(entry["path_name"]) for entry in entries)
    elif kind and kind["sample"]:
        harmless = _only_tensors(archive.read(name))
    if not harmless:
        raise WeightsError(
            f"{path}: {name} in it is more than tensors and a graph, and could run any code; it is not loaded"
        )


def _only_tensors(content: bytes) -> bool:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
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
