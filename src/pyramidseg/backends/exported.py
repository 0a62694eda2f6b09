"""What the backends of exported files share: the images they take, and what is to be said of a file that is no model.

Legend: B batch, C channels, H W pixels.
"""

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from pyramidseg.backends.metadata import COARSE, INPUT_DTYPES, ExportMetadata
from pyramidseg.backends.protocol import ModelBackend, RunPrecision
from pyramidseg.base.errors import DataError, WeightsError
from pyramidseg.model.normalization import INTEGER_RANGES

Outputs = tuple[str, ...]
"""Which of a file's outputs are computed: `LOGITS`, `COARSE`, or both."""


class ExportedBackend(ModelBackend):
    """A backend that runs an exported file.

    Prediction needs the coarse logits alone, so the rest of the graph is cut off before the runtime sees it. `run`
    gives the outputs that were asked for at construction, which is how export checks the whole file.

    Attributes:
        suffix: of the files that it runs.
        format: what `pyramidseg export --format` calls them.
        libraries: what has to be installed to run them.
        other_types: gives what computes images of a type that the file does not take; None where they are refused.
    """

    suffix: ClassVar[str]
    format: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]] = ()
    other_types: Callable[[], ModelBackend] | None = None

    @abstractmethod
    def __init__(
        self,
        model: str | Path,
        *,
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
        outputs: Outputs = (COARSE,),
    ) -> None:
        """Open a file; its card, weights and graph are checked now, not at the first image."""

    def _describe(
        self,
        path: Path,
        card: ExportMetadata,
        *,
        precision: str,
        device: torch.device,
        computing_device: torch.device | None,
        place: str,
    ) -> None:
        super().__init__(
            classes=card.classes,
            settings=card.settings,
            precision=precision,
            device=device,
            computing_device=computing_device,
            place=place,
            note=path.name,
        )
        self.path = path
        self.card = card

    @classmethod
    @abstractmethod
    def read_texts(cls, path: Path) -> dict[str, str]:
        """The metadata of a file, whoever wrote it, and whatever has become of it since.

        Raises:
            WeightsError: no such file, or unreadable.
            MissingExtra: what it takes to read it is not installed.
        """

    @classmethod
    @abstractmethod
    def read_card(cls, path: Path) -> ExportMetadata:
        """What a file says of itself.

        Raises:
            WeightsError: no such file, damaged, or not exported by this library.
            MissingExtra: what it takes to read it is not installed.
        """

    @classmethod
    @abstractmethod
    def check_device(cls, device: str | torch.device) -> None:
        """Refuse a device that the runtime does not have here, before there is a file to open.

        Raises:
            DeviceError: it has not.
            MissingExtra: the runtime is not installed.
        """

    @classmethod
    def computed_precision(cls, precision: str, device: str) -> str:
        """What the runtime multiplies in here where a file is of this precision."""
        return precision

    @abstractmethod
    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The chosen outputs of (B, C, H, W) images, by name, float32."""

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) float32."""
        if self.other_types is not None and not self.takes(images.dtype):
            return self.other_types().coarse_logits(images)
        return self.run(images)[COARSE]

    def takes(self, dtype: torch.dtype) -> bool:
        """Whether the file takes images of this type: its own alone, or all of them where that is floats."""
        return INPUT_DTYPES[self.card.input_dtype] in (torch.float32, dtype)

    def accepted(self, images: Tensor) -> Tensor:
        """Images as the file takes them: its own type as it is, and any type where it takes floats.

        Raises:
            DataError: of another shape, or of a type that the file was not exported for.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels or images.numel() == 0:
            raise DataError(f"images of shape {tuple(images.shape)}: this model takes (B, {self.in_channels}, H, W)")
        if not self.takes(images.dtype):
            raise DataError(
                f"{self.path}: takes {self.card.input_dtype} images, got {str(images.dtype).removeprefix('torch.')}; "
                "export with --input float32, which takes all types"
            )
        if images.dtype == INPUT_DTYPES[self.card.input_dtype]:
            return images.contiguous()
        return (images.float() / INTEGER_RANGES.get(images.dtype, 1.0)).contiguous()


def require_file(path: Path, suffix: str) -> None:
    """Refuse what is no file of this kind.

    Raises:
        WeightsError: absent, a folder, or of another kind.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    if path.suffix != suffix:
        raise WeightsError(f"{path}: not a {suffix} file")


def damaged(path: Path, error: Exception | str) -> WeightsError:
    """What a runtime says of a file that it cannot read, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return WeightsError(f"{path}: damaged, or not a {path.suffix} model: {' '.join(lines)[:300] or 'cannot be read'}")
