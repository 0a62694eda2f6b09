"""torch.export as a backend: `.pt2` files, which run without this library's model code."""

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from pyramidseg.backends.exported_backend import ExportedBackend, Opened, OutputNames, check_file, damaged_file
from pyramidseg.backends.metadata import CHECKSUM, COARSE, LOGITS, ExportMetadata
from pyramidseg.backends.program_check import ForbiddenText, check_program
from pyramidseg.backends.protocol import REDUCE_MEMORY_HINT, RunPrecision
from pyramidseg.base.device import choose_device, out_of_memory_explained
from pyramidseg.base.errors import WeightsError

METADATA_FILE, CHECKSUM_FILE = "pyramidseg.json", "pyramidseg.sha256"
"""Extra files of a program: the metadata, and the checksum over all other entries."""

ENTRY_NAMES = re.compile(
    r"[^/]+/(data/weights/weight_\d+|data/constants/tensor_\d+|(?P<config>data/(weights|constants)/\w+_config\.json)"
    r"|(?P<sample>data/sample_inputs/\w+\.pt)|(?P<program>models/\w+\.json)|extra/[\w.]+|archive_\w+|byteorder|\.data/\w+)"
)
READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)
"""Exceptions for archives that are damaged or encrypted, and for text that is not UTF-8."""

TENSOR_NAMES = re.compile(r"(weight|tensor)_\d+")
"""Names of the tensors of a program; other entries that such files may have can hold code."""


class ExportedTorchBackend(ExportedBackend):
    """A program of `torch.export`, run by torch; its precision is fixed."""

    name = "torch-exported"
    suffix = ".pt2"
    format = "torch"
    graphs: ClassVar[Mapping[str, str]] = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16"}

    def open(self, content: Any, device: str, precision: RunPrecision) -> Opened:
        """A program on the device, if loading it runs no code.

        `torch.export.load` unpickles the entries that a file marks as pickled, without restrictions, and opens compiled
        libraries in it. Our files hold neither; their example image is a pickle of tensors only. The texts of the graph
        that it evaluates must be those of our exports; see `program_check`.
        """
        place = choose_device(device)
        for name in content.namelist():
            _refuse_code(self.path, name, content)
        try:
            program = torch.export.load(io.BytesIO(content.fp.getvalue()))
            if place.type != "cpu":
                program = move_to_device_pass(program, place)
        except Exception as error:  # the reader and the parser of the graph raise many types
            raise damaged_file(self.path, error) from None
        with out_of_memory_explained(REDUCE_MEMORY_HINT):
            pruned = _pruned(program.module(), self.outputs)
        return Opened(pruned, self.metadata.precision, str(place), place)

    @classmethod
    def read(cls, path: Path) -> tuple[zipfile.ZipFile, dict[str, str], Callable[[], str]]:
        """A file as an archive in memory."""
        check_file(path, ".pt2")
        try:
            content = path.read_bytes()
            archive = zipfile.ZipFile(io.BytesIO(content))
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > len(content):  # torch stores entries without compressing them
                raise ValueError(f"it is compressed, and would take {unpacked / 1e9:.3g} GB when it is unpacked")
        except READ_ERRORS as error:
            raise damaged_file(path, error) from None

        def checksum() -> str:
            try:
                return archive_checksum(archive)
            except READ_ERRORS as error:
                raise damaged_file(path, error) from None

        return archive, metadata_strings(path, archive), checksum

    @classmethod
    def save(cls, content: ExportedProgram, path: Path, metadata: ExportMetadata) -> None:
        texts = json.dumps(metadata.to_strings(), ensure_ascii=False)
        file = io.BytesIO()  # torch ends the process where its own writer of files finds the disk full
        torch.export.save(content, file, extra_files={METADATA_FILE: texts})
        path.write_bytes(file.getbuffer())
        with zipfile.ZipFile(path, "a") as archive:
            root = archive.namelist()[0].partition("/")[0]
            archive.writestr(f"{root}/extra/{CHECKSUM_FILE}", archive_checksum(archive))

    @classmethod
    def check_device(cls, device: str | torch.device) -> None:
        choose_device(str(device))

    @torch.inference_mode()
    def run(self, images: Tensor) -> dict[str, Tensor]:
        with out_of_memory_explained(REDUCE_MEMORY_HINT):
            values = dict(zip((LOGITS, COARSE), self.program(self.to_input(images).to(self.device)), strict=True))
        return {name: values[name] for name in self.outputs}


def metadata_strings(path: Path, archive: zipfile.ZipFile) -> dict[str, str]:
    """The raw metadata of a `.pt2` file; empty if it is not ours."""
    extra = {name.partition("/extra/")[2]: name for name in archive.namelist()}
    if METADATA_FILE not in extra:
        return {}
    try:
        stored = json.loads(archive.read(extra[METADATA_FILE]))
        checksum = {CHECKSUM: archive.read(extra[CHECKSUM_FILE]).decode()} if CHECKSUM_FILE in extra else {}
    except READ_ERRORS as error:
        raise damaged_file(path, error) from None
    return {str(name): str(text) for name, text in stored.items()} | checksum if isinstance(stored, dict) else {}


def archive_checksum(archive: zipfile.ZipFile) -> str:
    """SHA-256 over names and contents of all entries except the checksum.

    Raises:
        ValueError: two entries have the same name, so that readers may disagree about the content.
    """
    names = sorted(archive.namelist())
    if len(set(names)) != len(names):
        raise ValueError("it has two entries of the same name")
    digest = hashlib.sha256()
    for name in names:
        if not name.endswith(f"/extra/{CHECKSUM_FILE}"):
            content = archive.read(name)
            digest.update(json.dumps([name, len(content)]).encode())
            digest.update(content)
    return digest.hexdigest()


def _refuse_code(path: Path, name: str, archive: zipfile.ZipFile) -> None:
    kind = ENTRY_NAMES.fullmatch(name)
    harmless = kind is not None
    if kind and kind["config"]:
        harmless = _lists_only_tensors(archive.read(name))
    elif kind and kind["program"]:
        try:
            check_program(archive.read(name))
        except ForbiddenText as error:
            raise WeightsError(
                f"{path}: its graph contains {error}, which our exports never do, and which could run any code; the "
                "file is not loaded"
            ) from None
        except ValueError as error:
            raise damaged_file(path, error) from None
    elif kind and kind["sample"]:
        harmless = _only_tensors(archive.read(name))
    if not harmless:
        raise WeightsError(
            f"{path}: its entry {name} is not tensors or a graph, and could run any code; the file is not loaded"
        )


def _lists_only_tensors(config: bytes) -> bool:
    """Whether this is a list of entries of which none is pickled."""
    try:
        entries = json.loads(config)["config"].values()
        return all(entry["use_pickle"] is False and TENSOR_NAMES.fullmatch(entry["path_name"]) for entry in entries)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _only_tensors(content: bytes) -> bool:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # the unpickler raises many types
        return False
    return True


def _pruned(program: nn.Module, outputs: OutputNames) -> nn.Module:
    """The program without the nodes that these outputs do not need; a removed output is replaced by a kept one."""
    if set(outputs) == {LOGITS, COARSE}:
        return program
    assert len(outputs) == 1 and isinstance(program, torch.fx.GraphModule)
    node = next(node for node in program.graph.nodes if node.op == "output")
    values = dict(zip((LOGITS, COARSE), node.args[0], strict=True))
    node.args = ((values[outputs[0]],) * 2,)
    program.graph.eliminate_dead_code()
    program.recompile()
    return program
