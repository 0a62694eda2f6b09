"""The models of the benchmark as files: SMP's, ours with and without smoothing, SMP's imported, and their exports."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from benchmarks.speed.peer import build_peer, export_to_onnx, smp_name

from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.factory import export_path, is_installed
from pyramidseg.backends.metadata import TARGETS
from pyramidseg.base.config import DataConfig
from pyramidseg.demo.scenes import write_scenes
from pyramidseg.export.export_model import export_model
from pyramidseg.export.graph import capture
from pyramidseg.export.onnx_format import to_onnx
from pyramidseg.export.quantization import Calibration, Quantizer
from pyramidseg.model.imports.foreign_checkpoint import ImportOptions
from pyramidseg.model.imports.smp import import_checkpoint
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.studies.benchmark_model import RUNTIMES


@dataclass(frozen=True)
class Files:
    """Of one encoder.

    Attributes:
        folder: that holds them all.
    """

    folder: Path

    @property
    def peer(self) -> Path:
        """SMP's weights."""
        return self.folder / "smp.pth"

    @property
    def peer_onnx(self) -> Path:
        """SMP's own export."""
        return self.folder / "smp.onnx"

    def bundle(self, which: str) -> Path:
        """By name.

        `ours` is without smoothing, and so SMP's arithmetic; `default` has it; `ours-as-written` and `as-written` are
        the same two, computed layer by layer; `imported` has SMP's weights.
        """
        return self.folder / f"{which}.safetensors"


class Workshop:
    """Makes an encoder's files when they are first asked for.

    Args:
        on_cpu: whether they are to run on a CPU, which OpenVINO does.
    """

    def __init__(self, folder: Path, *, classes: int, side_px: int, on_cpu: bool, say: Callable[[str], object]) -> None:
        self._folder = folder
        self._classes = classes
        self._side_px = side_px
        self._say = say
        self._on_cpu = on_cpu
        self.runtimes = tuple(
            name
            for name in (("onnxruntime", "openvino") if on_cpu else ("onnxruntime",))
            if is_installed(RUNTIMES[name]) and (on_cpu or "CUDAExecutionProvider" in _onnx_providers())
        )

    def files(self, encoder: str) -> Files:
        """All files of an encoder, exports for the installed runtimes among them."""
        files = Files(self._folder / encoder)
        if files.folder.exists():
            return files
        files.folder.mkdir(parents=True)
        self._say(f"{encoder}: making and exporting the models")
        peer = build_peer(encoder, self._classes).eval()
        torch.save(peer.state_dict(), files.peer)
        if self.runtimes:
            export_to_onnx(peer, files.peer_onnx, side_px=self._side_px)
        options = ImportOptions(encoder=smp_name(encoder))
        import_checkpoint(files.peer, library="smp", options=options).model.save(files.bundle("imported"))
        scenes = write_scenes(files.folder / "scenes", train=8, val=1, height=self._side_px, width=self._side_px).parent
        for which in ("ours", "default", "ours-as-written", "as-written"):
            build_ours(encoder, self._classes, smoothing=not which.startswith("ours")).save(files.bundle(which))
            for name in self.runtimes:
                as_written = which.endswith("as-written")
                export = export_model(files.bundle(which), format=RUNTIMES[name].format, as_written=as_written)
                assert export.path is not None, export.parity and export.parity.findings()
                if self._on_cpu and not as_written:
                    write_int8(files.bundle(which), RUNTIMES[name], scenes)
        return files


def write_int8(bundle: Path, backend: type[ExportedBackend], scenes: Path) -> None:
    """Write an int8 file next to the fp32 export of a bundle.

    Without the gate of `export`, which random weights cannot pass; the speed does not depend on them.
    """
    model, plain = Segmenter.load(bundle), backend.read_metadata(export_path(bundle, backend, "fp32"))
    has_vnni = any(torch.cpu.get_capabilities().get(name) for name in TARGETS["vnni"])
    calibration = Calibration(model, scenes, DataConfig(), 8, dtype=plain.input_dtype, gate=())
    program = capture(model, precision="fp32", input_dtype=plain.input_dtype, as_written=True)  # as `export` does
    graph = to_onnx(program)
    quantizer = Quantizer(graph, calibration, target="vnni" if has_vnni else "any")
    metadata = replace(plain, precision="int8", quantization=quantizer.describe([]), parity=None)
    backend.save(quantizer.quantize([]), export_path(bundle, backend, "int8"), metadata)


def build_ours(encoder: str, classes: int, *, smoothing: bool) -> Segmenter:
    """Our network with its defaults and random weights, the same each time."""
    torch.manual_seed(0)
    return Segmenter(num_classes=classes, encoder=encoder, encoder_weights="none", smoothing=smoothing).eval()


def _onnx_providers() -> list[str]:
    import onnxruntime

    providers: list[str] = onnxruntime.get_available_providers()
    return providers
