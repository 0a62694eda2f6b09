"""ExecuTorch, LiteRT and Core ML: files for phones and boards, which take float32 images of one size.

The metadata of a file are next to it, in `<file>.json`. A Core ML model is a folder, which is written as a zip file.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from pyramidseg.backends.exported_backend import Opened, check_file, damaged_file
from pyramidseg.backends.metadata import CHECKSUM, INPUT, ExportMetadata
from pyramidseg.backends.protocol import RunPrecision
from pyramidseg.base.errors import ConfigError, import_extra
from pyramidseg.base.files import file_sha256, write_json
from pyramidseg.base.log import quiet_libraries
from pyramidseg.export.program_file import ProgramFile


class MobileFile(ProgramFile):
    """Converts to a format, and runs its files on this machine for their check."""

    graphs: ClassVar[Mapping[str, str]] = {"fp32": "fp32"}
    _convert: ClassVar[Any]  # bytes of a program, its example image, precision and name of its output
    _load: ClassVar[Any]  # a function of images from a path

    @classmethod
    def convert(cls, program: ExportedProgram, *, precision: str, output: str) -> bytes:
        """Convert a program of one size; `ConfigError` if an operation of the network is not supported."""
        assert program.example_inputs is not None
        try:
            with quiet_libraries():
                return bytes(cls._convert(program, program.example_inputs[0][0], precision, output))
        except Exception as error:  # each converter raises types of its own
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ConfigError(f"`format={cls.format}`: cannot be converted: {reason}; try `format='onnx'`") from error

    @classmethod
    def save(cls, content: bytes, path: Path, metadata: ExportMetadata) -> None:
        path.write_bytes(content)
        write_json(cls.files(path)[0], {**metadata.to_strings(), CHECKSUM: file_sha256(path)})

    @classmethod
    def files(cls, path: Path) -> tuple[Path, ...]:
        return path.with_name(f"{path.name}.json"), path

    @classmethod
    def check_device(cls, device: str | torch.device) -> None:
        """Check that the converter and the runtime are installed."""
        with quiet_libraries():
            for library in cls.libraries:
                import_extra(library, extra=cls.format, purpose=f"`format={cls.format}`")

    @classmethod
    def read(cls, path: Path) -> tuple[Path, dict[str, str], Callable[[], str]]:
        """The path of a file, and its metadata."""
        check_file(path, cls.suffix)
        try:
            return path, json.loads(cls.files(path)[0].read_bytes()), lambda: file_sha256(path)
        except (OSError, ValueError) as error:
            raise damaged_file(cls.files(path)[0], error) from None

    def open(self, content: Path, device: str, precision: RunPrecision) -> Opened:
        with quiet_libraries():
            return Opened(type(self)._load(content), self.metadata.precision, "cpu")

    def output(self, images: Tensor) -> Tensor:
        with quiet_libraries():
            return torch.from_numpy(np.array(self.program(self.to_input(images))))


class ExecuTorchFile(MobileFile):
    """ExecuTorch, with XNNPACK."""

    name = format = "executorch"
    suffix, libraries = ".pte", ("executorch.exir", "executorch.runtime")

    @staticmethod
    def _convert(program: ExportedProgram, image: Tensor, precision: str, output: str) -> Any:
        xnnpack = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner").XnnpackPartitioner()
        lowered = import_module("executorch.exir").to_edge_transform_and_lower(program, partitioner=[xnnpack])
        return lowered.to_executorch().buffer

    @staticmethod
    def _load(path: Path) -> Callable[[Tensor], Any]:
        program = import_module("executorch.runtime").Runtime.get().load_program(path.read_bytes())
        held = program, program.load_method("forward")  # the method needs the program
        return lambda images: held[1].execute([images])[0]


class LiteRtFile(MobileFile):
    """LiteRT, with XNNPACK."""

    name = format = "litert"
    suffix, libraries = ".tflite", ("litert_torch", "ai_edge_litert.interpreter")

    @staticmethod
    def _convert(program: ExportedProgram, image: Tensor, precision: str, output: str) -> Any:
        return import_module("litert_torch").convert(program.module(), (image,)).model_content()

    @staticmethod
    def _load(path: Path) -> Callable[[Tensor], Any]:
        runtime, threads = import_module("ai_edge_litert.interpreter"), torch.get_num_threads()
        run = runtime.Interpreter(model_content=path.read_bytes(), num_threads=threads).get_signature_runner()
        (name,) = run.get_input_details()
        return lambda images: next(iter(run(**{name: images.numpy()}).values()))


class CoreMlFile(MobileFile):
    """Core ML, which is part of macOS: elsewhere a file is written without a check."""

    name = format = "coreml"
    suffix, libraries = ".mlpackage.zip", ("coremltools",)
    graphs: ClassVar[Mapping[str, str]] = {"fp32": "fp32", "fp16": "fp32"}
    runs_here = sys.platform == "darwin"

    @staticmethod
    def _convert(program: ExportedProgram, image: Tensor, precision: str, output: str) -> bytes:
        tools = import_module("coremltools")

        @tools.converters.mil.register_torch_op(override=True)  # type: ignore[untyped-decorator]
        def alias(context: Any, node: Any) -> None:  # unknown to coremltools 9.0
            context.add(context[node.inputs[0]], node.name)

        model = tools.convert(
            program.run_decompositions({}),
            minimum_deployment_target=tools.target.iOS16,  # and macOS 13
            compute_precision=tools.precision(precision.replace("fp", "float")),
            inputs=[tools.TensorType(INPUT, image.shape, np.float32)],
            outputs=[tools.TensorType(output, dtype=np.int32 if output == "labels" else np.float32)],
            skip_model_load=True,
        )
        with tempfile.TemporaryDirectory() as folder:
            model.save(f"{folder}/files/pyramidseg.mlpackage")
            return Path(shutil.make_archive(f"{folder}/packed", "zip", f"{folder}/files")).read_bytes()

    @staticmethod
    def _load(path: Path) -> Callable[[Tensor], Any]:
        with tempfile.TemporaryDirectory() as folder:
            shutil.unpack_archive(path, folder, "zip")
            model = import_module("coremltools").models.MLModel(f"{folder}/pyramidseg.mlpackage")
        return lambda images: next(iter(model.predict({INPUT: images.numpy()}).values()))
