"""Base class of the exported-model backends: input checks, and errors for unreadable files.

Legend: B batch, C channels, H W pixels.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from pyramidseg.backends.metadata import CHECKSUM, COARSE, INPUT_DTYPES, TARGETS, ExportMetadata
from pyramidseg.backends.protocol import REDUCE_MEMORY_HINT, ModelBackend, RunPrecision
from pyramidseg.base.device import out_of_memory_explained
from pyramidseg.base.errors import ConfigError, DataError, DeviceError, WeightsError, nearest
from pyramidseg.base.exhaustion import explain_exhaustion
from pyramidseg.model.input_scaling import INTEGER_RANGES

OutputNames = tuple[str, ...]
"""Names of the outputs that are computed: `LOGITS`, `COARSE`, or both."""


class Opened(NamedTuple):
    """A file that a runtime has opened.

    Attributes:
        program: the runtime's object.
        device: of the logits.
        precision, place, threaded: as in `ModelBackend`.
    """

    program: Any
    precision: str
    place: str
    device: torch.device = torch.device("cpu")
    threaded: tuple[object, ...] = ()


class ExportedBackend(ModelBackend):
    """A backend that runs an exported file.

    Prediction needs only the coarse logits, so the rest of the graph is removed before the runtime compiles it. `run`
    returns the outputs that were chosen at construction; the parity check of an export chooses both.

    Args:
        outputs: what `run` returns.

    Raises:
        MissingExtra: the runtime is not installed.
        WeightsError: the file does not exist, is damaged, or was not exported by this library.
        DeviceError: the runtime cannot use the device on this machine.
        ConfigError: the precision differs from the file's, where it is fixed.

    Attributes:
        suffix: of the files.
        format: their name in `pyramidseg export --format`.
        graphs: precisions that they can be exported in, each with that of the graph to convert.
        libraries: packages that must be installed to run them.
        fixed_precision: whether they run only in the precision that they were exported in.
        runs_programs: whether files for other programs are opened, too.
        batch: the smallest number of images that they take.
    """

    suffix: ClassVar[str]
    format: ClassVar[str]
    graphs: ClassVar[Mapping[str, str]]
    libraries: ClassVar[tuple[str, ...]] = ()
    fixed_precision: ClassVar[bool] = True
    runs_programs: ClassVar[bool] = False
    batch: int = 1

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
        outputs: OutputNames = (COARSE,),
    ) -> None:
        self.path, self.outputs, self._wanted_precision = Path(model), outputs, precision
        content, strings, checksum = self.read(self.path)
        metadata = self.metadata = ExportMetadata.from_strings(strings, self.path, checksum=checksum)
        if metadata.program is not None and not self.runs_programs:
            raise WeightsError(
                f"{self.path}: was exported for other programs ({metadata.program}); use its bundle "
                f"({metadata.source.get('file', 'unknown')}), or export it without `size`, `batch_size` and `output`"
            )
        is_int8 = "int8" in (precision, metadata.precision)
        if (self.fixed_precision or is_int8) and precision not in ("auto", metadata.precision):
            raise ConfigError(
                f"`precision={precision}`: {self.path} was exported in {metadata.precision}, which is fixed in "
                f"{'such' if self.fixed_precision else 'int8'} files; leave precision out, or export the bundle again"
            )
        if metadata.quantization is not None and str(device) in ("auto", "cpu"):
            check_target(metadata.quantization.target, f"{self.path}: was exported with ")
        opened = self.open(content, str(device), precision)
        super().__init__(
            classes=metadata.classes,
            settings=metadata.settings,
            precision=opened.precision,
            device=opened.device,
            place=opened.place,
            note=self.path.name,
            value_range=metadata.value_range,
            resolution_m=metadata.resolution_m,
            checksum=metadata.source.get(CHECKSUM),
        )
        self.program, self.threaded = opened.program, opened.threaded

    @classmethod
    @abstractmethod
    def read(cls, path: Path) -> tuple[Any, dict[str, str], Callable[[], str]]:
        """The content of a file, its raw metadata, and a function that computes the checksum of the content.

        Raises:
            WeightsError: the file does not exist or is unreadable.
            MissingExtra: a package that is needed to read it is not installed.
        """

    @classmethod
    @abstractmethod
    def save(cls, content: Any, path: Path, metadata: ExportMetadata) -> None:
        """Write a converted graph with its metadata, for `read`."""

    @classmethod
    def files(cls, path: Path) -> tuple[Path, ...]:
        """All files of an export by the one that is opened, which comes last."""
        return (path,)

    @abstractmethod
    def open(self, content: Any, device: str, precision: RunPrecision) -> Opened:
        """Check the weights and the graph of a file, and load it without what the outputs do not need."""

    def reopen(self) -> None:
        """Open the file with one thread if the runtime has threads of its own, which are in the parent process."""
        if self.threaded:
            type(self).__init__(self, self.path, device="cpu", precision=self._wanted_precision, outputs=self.outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied as the path of its file, which is opened again on the same device."""
        options: dict[str, Any] = {"device": self.place, "precision": self._wanted_precision, "outputs": self.outputs}
        return partial(type(self), self.path.absolute(), **options), ()

    @classmethod
    def read_metadata(cls, path: Path) -> ExportMetadata:
        """The metadata of a file that is unchanged since its export; raises what `read` does.

        Raises:
            WeightsError: the file is damaged, or was not exported by this library.
        """
        _, strings, checksum = cls.read(path)
        return ExportMetadata.from_strings(strings, path, checksum=checksum)

    @classmethod
    @abstractmethod
    def check_device(cls, device: str | torch.device) -> None:
        """Check that the runtime can use a device on this machine; no file is needed.

        Raises:
            DeviceError: it cannot.
            MissingExtra: the runtime is not installed.
        """

    @classmethod
    def computed_precision(cls, precision: str, device: str) -> str:
        """The precision in which the runtime multiplies on this machine for a file of the given precision."""
        return precision

    @abstractmethod
    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The chosen outputs of (B, C, H, W) images, by name, float32."""

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) float32."""
        self.continue_after_fork()
        with out_of_memory_explained(REDUCE_MEMORY_HINT):
            return self.run(images)[COARSE]

    def to_input(self, images: Tensor) -> Tensor:
        """Images in the dtype of the file's input.

        Raises:
            DataError: another shape, or a dtype that the file was not exported for.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels or images.numel() == 0:
            raise DataError(f"images of shape {tuple(images.shape)}: this model takes (B, {self.in_channels}, H, W)")
        return as_input(images, self.metadata.input_dtype, self.path)


def as_input(images: Tensor, dtype: str, path: Path) -> Tensor:
    """Images in the dtype of a file's input, a key of `INPUT_DTYPES`; `DataError` if only float32 files take them."""
    if images.dtype == INPUT_DTYPES[dtype]:
        return images.contiguous()
    if dtype != "float32":
        raise DataError(
            f"{path}: takes {dtype} images, got {str(images.dtype).removeprefix('torch.')}; export with "
            "`input_dtype='float32'`, which takes all types, or run the bundle in torch (`backend='torch'`)"
        )
    return (images.float() / INTEGER_RANGES.get(images.dtype, 1.0)).contiguous()


def check_target(target: str, what: str) -> None:
    """`ConfigError` if it is not a key of `TARGETS`, `DeviceError` if this processor does not have its instructions."""
    if target not in TARGETS:
        raise ConfigError(f"{what}`target={target}`: unknown target; {nearest(target, TARGETS)}")
    own, needed = torch.cpu.get_capabilities(), TARGETS[target]
    if needed and not any(own.get(name) for name in needed):
        raise DeviceError(
            f"{what}`target={target}`, and this processor ({own.get('cpu_name', own.get('architecture'))}) does not "
            f"have {' or '.join(needed)}, so that sums could overflow; export with `target='any'`"
        )


def check_file(path: Path, suffix: str) -> None:
    """Check that a file exists and has this suffix.

    Raises:
        WeightsError: it does not exist, is a folder, or has another suffix.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    if not path.name.endswith(suffix):
        raise WeightsError(f"{path}: not a {suffix} file")


def damaged_file(path: Path, error: Exception | str) -> WeightsError:
    """The error for a file that a runtime cannot read, with the runtime's message in one line."""
    if isinstance(error, Exception) and (line := explain_exhaustion(error)) is not None:
        return WeightsError(f"{path}: cannot be loaded: {line}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return WeightsError(f"{path}: damaged, or not a {path.suffix} model: {' '.join(lines)[:300] or 'cannot be read'}")
