"""`export_model`: a bundle to a file for another runtime, published only if it predicts the same as the bundle."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.factory import EXPORTED, model_file
from pyramidseg.backends.metadata import COARSE, LOGITS, ExportMetadata, Program
from pyramidseg.backends.metadata import KIND as EXPORT
from pyramidseg.backends.torch_export_backend import ExportedTorchBackend
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, OutputError, WeightsError
from pyramidseg.base.files import explained_writes, temporary_folder, write_atomically, write_json
from pyramidseg.base.output_lock import locked
from pyramidseg.base.remote_files import is_url
from pyramidseg.base.version import __version__
from pyramidseg.export import onnx_format, web
from pyramidseg.export.graph import capture
from pyramidseg.export.mobile_formats import CoreMlFile, MobileFile
from pyramidseg.export.parity import Parity, check_parity, check_tolerance
from pyramidseg.export.program_file import OnnxProgramFile, WithOutput, at_program_size, check_program_file
from pyramidseg.export.quantization import DEFAULT_IMAGES, Calibration, Quantizer, check_calibration
from pyramidseg.export.samples import Samples, default_dtype, labelled_samples, synthetic_samples
from pyramidseg.export.targets import ONE_SIZE, check_export_options, find_format
from pyramidseg.formats.open_dataset import DEFAULT_DATA, check_data_config
from pyramidseg.model.bundle import KIND, ground_resolution_of
from pyramidseg.model.segmenter import Segmenter, load_model
from pyramidseg.model.tensor_files import CHECKSUM, read_metadata
from pyramidseg.predict.outputs.ownership import is_ours

logger = logging.getLogger(__name__)

DEFAULT_SPLIT = "val"


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes:
        path: the file to open; None if its predictions differ too much, so that nothing was written.
        report: the parity report next to it; None as `path`.
        parity: the comparison with the bundle; its `findings` say why nothing was written. None of a Core ML file
            that was written elsewhere than on macOS.
    """

    path: Path | None
    report: Path | None
    parity: Parity | None


def export_model(
    model: str | Path,
    *,
    format: str = "onnx",
    precision: str = "fp32",
    out: str | Path | None = None,
    input_dtype: str = "auto",
    check: str | Path | None = None,
    split: str = DEFAULT_SPLIT,
    data: DataConfig = DEFAULT_DATA,
    device: str = "cpu",
    as_written: bool = False,
    opset: int | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
    output: str = LOGITS,
    calibrate: str | Path | None = None,
    calibration_images: int = DEFAULT_IMAGES,
    target: str = "any",
    tolerance: float | None = None,
    other_texts: Mapping[str, str] = MappingProxyType({}),
) -> Export:
    """Export a bundle for another runtime, unless the file predicts something else there.

    The file is `<bundle>.onnx`, `.xml` with `.bin`, `.pt2`, or one of `mobile_formats`, with size, output and precision
    before the dot, or a page (`web.page_path`), and `<file>.parity.json` next to it. An earlier export of that name is
    replaced; other files never are.

    Args:
        format: a key of `FORMATS`.
        precision: `fp32`, `fp16`, `bf16` or `int8`; not every format has all of them.
        out: folder; by default that of the bundle. Of a page the folder of its files, or an HTML file.
        input_dtype: type of the images that the file takes: `uint8`, `uint16`, `float32` (for which this library
            converts all types), or `auto`: that of the images in `check`, else `default_dtype`.
        check: a labelled dataset with the model's classes to compare on; by default `calibrate`, or synthetic scenes.
        split: split of `check` to compare on.
        data: how `check` is read, as in training.
        device: runs the file for the comparison.
        as_written: keep the layers of the decoder, instead of composing them to fewer operations.
        opset: version of ONNX's operations.
        size: (height, width) of the only images that the file takes; with it or another `output` the file is for
            other programs, and has the size and output in its name.
        batch_size: number of images, with `size`.
        output: `logits`, `labels` or `probabilities`.
        calibrate: for int8, a dataset with images (split train) to measure the ranges of activations on.
        calibration_images: number of these; images that are also checked on are left out.
        target: for int8, the processors: a key of `TARGETS`.
        tolerance: largest change of mIoU in points (hundredths), instead of that of the precision.
        other_texts: metadata that another program reads in an ONNX file, by key.

    Raises:
        ConfigError: `model` is an export; an unknown format, precision or type; `input_dtype` does not fit the images
            in `check`; `split` or `data` without `check`; a precision that cannot be checked on this device; or an
            encoder that the format does not support.
        DeviceError: the runtime does not have the device.
        MissingExtra: the libraries of the format are not installed.
        WeightsError: the bundle cannot be read.
        DataError: the images cannot be used.
        OutputError: a file that is not ours has that name, or the folder cannot be written.
    """
    backend = find_format(format, precision)
    path = _bundle_file(model, out, backend)
    program = None if size is None and output == LOGITS else Program(output, size, batch_size)
    labelled = calibrate if check is None else check
    check_export_options(format, opset, program, batch_size=batch_size, device=device, input_dtype=input_dtype)
    check_calibration(precision, calibrate, calibration_images, target, program)
    check_tolerance(tolerance, precision, labelled)
    check_data_config(data)
    if labelled is None:
        _refuse_unused_options(split, data)
    backend.check_device(device)
    _refuse_emulated_bf16(backend, precision, device)

    segmenter, bundle = load_model(path), read_metadata(path, kind=KIND)
    file = _file_to_write(path, out, backend, precision, program)
    if backend is web.PageFile:
        web.check_possible(segmenter)
    with locked(file.parent, file=file.name):
        _refuse_foreign_files(file, backend)
        samples, dtype = _samples(segmenter, format, labelled, split, data, input_dtype)
        metadata = ExportMetadata(
            precision=precision,
            input_dtype=dtype,
            classes=segmenter.classes,
            settings=segmenter.settings,
            mean=tuple(segmenter.mean.tolist()),
            std=tuple(segmenter.std.tolist()),
            value_range=segmenter.value_range,
            resolution_m=ground_resolution_of(bundle),
            source={"file": path.name, CHECKSUM: bundle[CHECKSUM]},
            program=program,
            other_texts=other_texts,
        )
        wanted = f"for {dtype} images of any size" if program is None else f"{program} for {dtype} images"
        logger.info(f"{path}: to {format} {precision}, {wanted}")
        task = _ExportTask(segmenter, backend, metadata, at_program_size(samples, program), device, tolerance, opset)
        content = task.convert(as_written=as_written)
        with explained_writes(file), temporary_folder(file) as folder:  # where files can be renamed to the file
            staged = folder / file.name
            if calibrate is None:
                parity = task.check(content, staged)
            else:
                logger.info(f"checking on {samples}")
                images = Calibration(segmenter, calibrate, data, calibration_images, dtype=dtype, gate=samples.files)
                quantizer = Quantizer(task.convert(as_written=True), images, target=target)
                content, metadata, parity = quantizer.write_until_close(
                    staged, metadata, content, backend=backend, device=device, compare=partial(task.compare, staged)
                )
            if parity is not None and parity.findings():
                return Export(None, None, parity)
            metadata = replace(metadata, parity=None if parity is None else parity.to_dict())
            backend.save(content, staged, metadata)
            for each in backend.files(file):
                write_atomically(each, staged.with_name(each.name).replace)
            return Export(file, _write_report(file, metadata), parity)


@dataclass(frozen=True)
class _ExportTask:
    """A model that is to become a file.

    Attributes:
        backend: writes and runs it, for the check on `device`.
        metadata: of the file before its check.
        samples: that it is checked on.
    """

    segmenter: Segmenter
    backend: type[ExportedBackend]
    metadata: ExportMetadata
    samples: Samples
    device: str
    tolerance: float | None
    opset: int | None

    def convert(self, *, as_written: bool) -> Any:
        """What `backend.save` writes."""
        program, output = self.metadata.program, None if self.metadata.program is None else self.metadata.program.output
        graph = capture(
            self.segmenter,
            precision=self.backend.graphs[self.metadata.precision],
            input_dtype=self.metadata.input_dtype,
            as_written=as_written,
            change=lambda graph: graph if output is None else WithOutput(graph, output),
            shape=None if program is None or program.size is None else (program.batch, *program.size),
        )
        if self.backend is ExportedTorchBackend:
            return graph
        if self.backend is web.PageFile:
            return web.convert(graph, self.segmenter, self.metadata.input_dtype)
        if issubclass(self.backend, MobileFile):
            return self.backend.convert(graph, precision=self.metadata.precision, output=output or LOGITS)
        return onnx_format.to_onnx(graph, outputs=(output,) if output else (LOGITS, COARSE), opset=self.opset)

    def check(self, content: Any, staged: Path) -> Parity | None:
        """Write the file and compare it with its bundle; None where its runtime cannot run."""
        if self.backend is CoreMlFile and not CoreMlFile.runs_here:
            logger.warning(f"{staged.name}: not compared with the bundle; on macOS, where Core ML runs, it is")
            return None
        logger.info(f"checking on {self.samples}")
        self.backend.save(content, staged, self.metadata)
        return self.compare(staged)

    def compare(self, staged: Path) -> Parity:
        """Compare the file with its bundle."""
        if (program := self.metadata.program) is not None:
            runtime = self.backend if issubclass(self.backend, MobileFile) else OnnxProgramFile
            try:
                opened = runtime(staged, program)
            except WeightsError as error:
                reason = str(error).replace(f"{staged}: damaged, or not a {staged.suffix} model: ", "")
                raise ConfigError(f"the runtime cannot open what was converted: {reason}") from error
            found = check_program_file(opened, program, self.segmenter, self.samples)
        elif self.backend is web.PageFile:
            found = web.check_page(staged, self.segmenter, self.samples)
        else:
            whole = self.backend(staged, device=self.device, outputs=(LOGITS, COARSE))
            predicting = self.backend(staged, device=self.device)
            found = check_parity(whole, self.segmenter, self.samples, predicting=predicting)
        return found if self.tolerance is None else replace(found, tolerance=self.tolerance / 100)


def _bundle_file(model: str | Path, out: str | Path | None, backend: type[ExportedBackend]) -> Path:
    """The file of the bundle, copied from a URL.

    Raises:
        ConfigError: it is an export, or there is no folder to write to.
    """
    if out is None and is_url(model):
        raise ConfigError(f"{model}: an export is written next to its bundle, so a URL needs `out=DIR`")
    if out is not None and str(out).endswith(backend.suffix) and not Path(out).is_dir():
        raise ConfigError(f"`out={out}`: give a folder, such as {Path(out).parent}; the bundle names the file in it")
    path = model_file(model)
    if path.suffix in EXPORTED and path.is_file():
        raise ConfigError(f"{path}: is already an export; pass the bundle (.safetensors) that it was made from")
    return path


def _file_to_write(
    bundle: Path, out: str | Path | None, backend: type[ExportedBackend], precision: str, program: Program | None
) -> Path:
    """The bundle's name with what distinguishes the export from others of the same bundle."""
    parts = [bundle.stem]
    if program is not None and program.size is not None:
        parts += [f"{program.size[0]}x{program.size[1]}", *([f"b{program.batch}"] if program.batch > 1 else [])]
    if program is not None and program.output != LOGITS:
        parts.append(program.output)
    if precision != "fp32":
        parts.append(precision)
    file = Path(bundle.parent if out is None else out) / ("-".join(parts) + backend.suffix)
    return web.page_path(file, out) if backend is web.PageFile else file


def _samples(
    segmenter: Segmenter, format: str, labelled: str | Path | None, split: str, data: DataConfig, input_dtype: str
) -> tuple[Samples, str]:
    """The images of the check, and the type of the file's input.

    Raises:
        ConfigError: `input_dtype` does not fit the labelled images.
    """
    if format in ONE_SIZE:
        input_dtype = "float32"
    if labelled is None:
        dtype = default_dtype(segmenter) if input_dtype == "auto" else input_dtype
        return synthetic_samples(segmenter, web.image_dtype(dtype) if format == "web" else dtype), dtype
    samples = labelled_samples(segmenter, labelled, split, data)
    if input_dtype not in ("auto", "float32", samples.dtype):
        raise ConfigError(
            f"`input_dtype={input_dtype}`: the images of `check={labelled}` need {samples.dtype}, or float32, which "
            "takes all types; choose one of these, or leave `input_dtype` out"
        )
    return samples, samples.dtype if input_dtype == "auto" else input_dtype


def _write_report(file: Path, metadata: ExportMetadata) -> Path:
    """Write the parity report next to a file."""
    report = _report(file)
    source = {"file": file.name, "source": dict(metadata.source)}
    result = metadata.parity or "not run: needs macOS"
    int8 = {} if metadata.quantization is None else {"quantization": asdict(metadata.quantization)}
    write_json(report, {"pyramidseg": __version__, **source, "parity": result, **int8})
    return report


def _report(file: Path) -> Path:
    return file.with_name(f"{file.name}.parity.json")


def _refuse_foreign_files(target: Path, backend: type[ExportedBackend]) -> None:
    """Allow only earlier exports to be replaced."""
    report = _report(target)
    for file in backend.files(target):
        if not file.exists():
            continue
        ours = target.suffix == ".html" and is_ours(report)
        with suppress(WeightsError):
            ours = ours or backend.read(target)[1].get("format") == EXPORT
        if not ours:
            raise OutputError(f"{file}: exists and was not exported by pyramidseg; choose another `out`, or remove it")
    if report.exists() and not is_ours(report):
        raise OutputError(f"{report}: exists and was not written by pyramidseg; choose another `out`")


def _refuse_unused_options(split: str, data: DataConfig) -> None:
    """Refuse options on how a dataset is read if there is none."""
    given = [f"data.{name}={value}" for name, value in data if value != getattr(DEFAULT_DATA, name)]
    if split != DEFAULT_SPLIT:
        given.append(f"`split={split}`")
    if given:
        raise ConfigError(
            f"{given[0]}: has no effect without `check`, as the file is compared on synthetic scenes; leave it out, or "
            "pass labelled images with `check`"
        )


def _refuse_emulated_bf16(backend: type[ExportedBackend], precision: str, device: str) -> None:
    """Refuse bf16 where the runtime computes in fp32 instead: the comparison would pass and show nothing.

    fp16 is different: it rounds the weights in the file, and the comparison shows their effect.
    """
    if precision == "bf16" and (computed := backend.computed_precision(precision, device)) != "bf16":
        raise ConfigError(
            f"`format={backend.format}` `precision=bf16`: {backend.name} computes in {computed} on this {device}, so "
            "bf16 cannot be checked here; export on a machine with bf16, or export in fp32, which has the same weights "
            "and runs in bf16 there (predict with `precision='bf16'`)"
        )
