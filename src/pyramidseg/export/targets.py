"""The export formats, and the options that each of them takes."""

from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.metadata import INPUT_DTYPES, LOGITS, Program
from pyramidseg.backends.onnx_backend import OnnxRuntimeBackend
from pyramidseg.backends.openvino_backend import OpenVinoBackend
from pyramidseg.backends.torch_export_backend import ExportedTorchBackend
from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.export.mobile_formats import CoreMlFile, ExecuTorchFile, LiteRtFile
from pyramidseg.export.web import PageFile

FORMATS: dict[str, type[ExportedBackend]] = {
    backend.format: backend
    for backend in (
        *(OnnxRuntimeBackend, PageFile, OpenVinoBackend, ExportedTorchBackend),
        *(ExecuTorchFile, LiteRtFile, CoreMlFile),
    )
}
"""What writes and checks the files of a format, by the name that `--format` takes."""

OUTPUTS = (LOGITS, "labels", "probabilities")

ONE_SIZE = ("executorch", "litert", "coreml")
"""Formats that are for other programs only, and for images of one size."""

NATIVE_OPSETS = range(18, 24)
"""What PyTorch's exporter writes."""

OPSETS = range(14, 24)
"""What a graph of one size can be converted to; the ways to pad of any size need 18."""


def find_format(name: str, precision: str) -> type[ExportedBackend]:
    """The format of a name.

    Raises:
        ConfigError: an unknown format, or a precision that it does not support.
    """
    if name not in FORMATS:
        raise ConfigError(f"`format={name}`: unknown format; {nearest(name, FORMATS)}")
    if precision not in FORMATS[name].graphs:
        others = [f"`format={other!r}`" for other, found in FORMATS.items() if precision in found.graphs]
        advice = f", or {' or '.join(others)}" if others else ""
        raise ConfigError(f"`precision={precision}`: choose {' or '.join(FORMATS[name].graphs)} for {name}{advice}")
    return FORMATS[name]


def check_export_options(
    format: str, opset: int | None, program: Program | None, *, batch_size: int, device: str, input_dtype: str
) -> None:
    """Refuse what cannot be written.

    Raises:
        ConfigError: names the option, and what is possible.
    """
    if input_dtype not in ("auto", *INPUT_DTYPES):
        raise ConfigError(f"`input_dtype={input_dtype}`: unknown type; {nearest(input_dtype, ['auto', *INPUT_DTYPES])}")
    if batch_size < 1:
        raise ConfigError(f"`batch_size={batch_size}`: choose a number from 1")
    fixed = program is not None and program.size is not None
    if batch_size != 1 and not fixed:
        raise ConfigError(
            f"`batch_size={batch_size}`: has no effect without a size: the file takes any number of images"
        )
    if (program is not None or format == "web") and device != "cpu":
        raise ConfigError(
            f"`device={device}`: pages and files with another output or size are checked on the cpu; leave it out"
        )
    if format in ONE_SIZE and not fixed:
        raise ConfigError(f"`format={format}`: such files take images of one size; add it, such as `size=(512, 512)`")
    if format in ONE_SIZE and input_dtype not in ("auto", "float32"):
        raise ConfigError(f"`input_dtype={input_dtype}`: files of `format={format}` take float32 images; leave it out")
    if format != "onnx" and (opset is not None or (program is not None and format not in ONE_SIZE)):
        raise ConfigError(
            f"`format={format}`: `opset` is for onnx; `size` and `output` for onnx, {', '.join(ONE_SIZE)}"
        )
    if program is not None and program.output not in OUTPUTS:
        raise ConfigError(f"`output={program.output}`: choose {', '.join(OUTPUTS)}")
    if opset is not None and opset not in (OPSETS if fixed else NATIVE_OPSETS):
        least = "" if fixed or opset not in OPSETS else f"; opset {opset} needs a graph of one size: `size=(512, 512)`"
        allowed = OPSETS if fixed else NATIVE_OPSETS
        raise ConfigError(f"`opset={opset}`: choose {allowed.start} to {allowed.stop - 1}{least}")
