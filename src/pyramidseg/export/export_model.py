"""`export_model`: a bundle to a file for another runtime, published only if it predicts the same as the bundle."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pyramidseg.backends import EXPORTED
from pyramidseg.backends.factory import model_file
from pyramidseg.backends.metadata import COARSE, INPUT_DTYPES, LOGITS, ExportMetadata, Program
from pyramidseg.backends.metadata import KIND as EXPORT
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, OutputError, WeightsError, nearest
from pyramidseg.base.files import explained_writes, temporary_folder, write_atomically, write_json
from pyramidseg.base.output_lock import locked
from pyramidseg.base.remote_files import is_url
from pyramidseg.base.version import __version__
from pyramidseg.export import onnx_format, web
from pyramidseg.export.graph import capture
from pyramidseg.export.mobile_formats import CoreMlFile, MobileFile
from pyramidseg.export.parity import Parity, check_parity, check_tolerance
from pyramidseg.export.program_file import (
    ONE_SIZE,
    OnnxProgramFile,
    WithOutput,
    at_program_size,
    check_program,
    check_program_file,
)
from pyramidseg.export.quantization import DEFAULT_IMAGES, Calibration, Quantizer, check_calibration
from pyramidseg.export.samples import Samples, default_dtype, labelled_samples, synthetic_samples
from pyramidseg.export.targets import Format, find_format
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
    if out is None and is_url(model):
        raise ConfigError(f"{model}: an export is written next to its bundle, so a URL needs --out DIR")
    path = model_file(model)
    target_format = find_format(format, precision)
    if out is not None and str(out).endswith(target_format.backend.suffix) and not Path(out).is_dir():
        raise ConfigError(f"--out {out}: give a folder, such as {Path(out).parent}; the bundle names the file in it")
    if input_dtype not in ("auto", *INPUT_DTYPES):
        raise ConfigError(f"--input {input_dtype}: unknown type; {nearest(input_dtype, ['auto', *INPUT_DTYPES])}")
    if path.suffix in EXPORTED and path.is_file():
        raise ConfigError(f"{path}: is already an export; pass the bundle (.safetensors) that it was made from")
    program = None if size is None and output == LOGITS else Program(output, size, batch_size)
    check_program(format, opset, program, batch_size=batch_size, device=device)
    if format in ONE_SIZE:
        if input_dtype not in ("auto", "float32"):
            raise ConfigError(f"--input {input_dtype}: files of --format {format} take float32 images; leave it out")
        input_dtype = "float32"
    check_calibration(precision, calibrate, calibration_images, target, program)
    labelled = calibrate if check is None else check
    check_tolerance(tolerance, precision, labelled)
    check_data_config(data)
    if labelled is None:
        _refuse_unused_options(split, data)
    target_format.backend.check_device(device)
    _refuse_emulated_bf16(target_format, precision, device)

    segmenter = load_model(path)
    file = Path(path.parent if out is None else out) / _file_name(path.stem, target_format, precision, program)
    if format == "web":
        file = web.page_path(file, out)
        web.check_possible(segmenter)
    with locked(file.parent, file=file.name):
        _refuse_foreign_files(file, target_format)
        read_samples, dtype = _samples_reader(segmenter, format, labelled, split, data, input_dtype)
        metadata = ExportMetadata(
            precision=precision,
            input_dtype=dtype,
            classes=segmenter.classes,
            settings=segmenter.settings,
            mean=tuple(segmenter.mean.tolist()),
            std=tuple(segmenter.std.tolist()),
            value_range=segmenter.value_range,
            resolution_m=ground_resolution_of(bundle := read_metadata(path, kind=KIND)),
            source={"file": path.name, CHECKSUM: bundle[CHECKSUM]},
            program=program,
            other_texts=other_texts,
        )
        wanted = f"for {dtype} images of any size" if program is None else f"{program} for {dtype} images"
        logger.info(f"{path}: to {format} {precision}, {wanted}")
        trace = partial(
            capture,
            segmenter,
            precision=target_format.graphs[precision],
            input_dtype=dtype,
            change=lambda graph: graph if program is None else WithOutput(graph, program.output),
            shape=None if size is None else (batch_size, *size),
        )
        graph = trace(as_written=as_written)
        content: Any = graph
        if format in ("onnx", "openvino"):
            outputs = (LOGITS, COARSE) if program is None else (output,)
            content = onnx_format.to_onnx(graph, outputs=outputs, opset=opset)
        elif issubclass(target_format.backend, MobileFile):
            content = target_format.backend.convert(graph, precision=precision, output=output)
        save = web.convert(graph, segmenter) if format == "web" else partial(target_format.save, content)

        with explained_writes(file), temporary_folder(file) as folder:  # where files can be renamed to the file
            staged = folder / file.name
            samples = at_program_size(read_samples(), program)
            compare = partial(_compare, staged, metadata, segmenter, target_format, device=device, tolerance=tolerance)
            parity: Parity | None = None
            if target_format.backend is CoreMlFile and not CoreMlFile.runs_here:
                logger.warning(f"{file}: not compared with the bundle; on macOS, where Core ML runs, it is")
            elif calibrate is None:
                logger.info(f"checking on {samples}")
                save(staged, metadata)
                parity = compare(samples)
            else:
                logger.info(f"checking on {samples}")
                images = Calibration(segmenter, calibrate, data, calibration_images, dtype=dtype, gate=samples.files)
                written = onnx_format.to_onnx(trace(as_written=True), opset=opset)
                content, metadata, parity = Quantizer(written, images, target=target).write_until_close(
                    staged,
                    metadata,
                    content,
                    format=target_format,
                    device=device,
                    compare=lambda: compare(read_samples()),
                )
                save = partial(target_format.save, content)
            if parity is not None and parity.findings():
                return Export(None, None, parity)
            metadata = replace(metadata, parity=None if parity is None else parity.to_dict())
            save(staged, metadata)
            for each in target_format.files(file):  # the file that is opened comes last
                write_atomically(each, staged.with_name(each.name).replace)
            report = file.with_name(f"{file.name}.parity.json")
            source = {"file": file.name, "source": dict(metadata.source)}
            result = metadata.parity or "not run: needs macOS"
            int8 = {} if metadata.quantization is None else {"quantization": asdict(metadata.quantization)}
            write_json(report, {"pyramidseg": __version__, **source, "parity": result, **int8})
            return Export(file, report, parity)


def _file_name(stem: str, target_format: Format, precision: str, program: Program | None) -> str:
    """The bundle's name with what distinguishes the export from others of the same bundle."""
    parts = [stem]
    if program is not None and program.size is not None:
        parts += [f"{program.size[0]}x{program.size[1]}", *([f"b{program.batch}"] if program.batch > 1 else [])]
    if program is not None and program.output != LOGITS:
        parts.append(program.output)
    if precision != "fp32":
        parts.append(precision)
    return "-".join(parts) + target_format.backend.suffix


def _samples_reader(
    segmenter: Segmenter, format: str, labelled: str | Path | None, split: str, data: DataConfig, input_dtype: str
) -> tuple[Callable[[], Samples], str]:
    """A function that reads the images of the check, and the type of the file's input.

    Raises:
        ConfigError: `input_dtype` does not fit the labelled images.
    """
    if labelled is None:
        dtype = default_dtype(segmenter) if input_dtype == "auto" else input_dtype
        return partial(synthetic_samples, segmenter, web.image_dtype(dtype) if format == "web" else dtype), dtype
    read = partial(labelled_samples, segmenter, labelled, split, data)
    found = read().dtype
    if input_dtype not in ("auto", "float32", found):
        raise ConfigError(
            f"--input {input_dtype}: the images of --check {labelled} need {found}, or float32, which takes all "
            "types; choose one of these, or leave --input out"
        )
    return read, found if input_dtype == "auto" else input_dtype


def _compare(
    staged: Path,
    metadata: ExportMetadata,
    segmenter: Segmenter,
    target_format: Format,
    samples: Samples,
    *,
    device: str,
    tolerance: float | None,
) -> Parity:
    """Compare a file with its bundle."""
    if metadata.program is not None:
        runtime = target_format.backend if issubclass(target_format.backend, MobileFile) else OnnxProgramFile
        try:
            backend = runtime(staged, metadata.program)
        except WeightsError as error:
            reason = str(error).replace(f"{staged}: damaged, or not a {staged.suffix} model: ", "")
            raise ConfigError(f"the runtime cannot open what was converted: {reason}") from error
        found = check_program_file(backend, metadata.program, segmenter, samples)
    elif target_format.files is web.page_files:
        found = web.check_page(staged, segmenter, samples)
    else:
        whole = target_format.backend(staged, device=device, outputs=(LOGITS, COARSE))
        predicting = target_format.backend(staged, device=device)
        found = check_parity(whole, segmenter, samples, predicting=predicting)
    return found if tolerance is None else replace(found, tolerance=tolerance / 100)


def _refuse_foreign_files(target: Path, target_format: Format) -> None:
    """Allow only earlier exports to be replaced."""
    report = target.with_name(f"{target.name}.parity.json")
    for file in target_format.files(target):
        if not file.exists():
            continue
        ours = target.suffix == ".html" and is_ours(report)
        with suppress(WeightsError):
            ours = ours or target_format.backend.read(target)[1].get("format") == EXPORT
        if not ours:
            raise OutputError(f"{file}: exists and was not exported by pyramidseg; choose another --out, or remove it")
    if report.exists() and not is_ours(report):
        raise OutputError(f"{report}: exists and was not written by pyramidseg; choose another --out")


def _refuse_unused_options(split: str, data: DataConfig) -> None:
    """Refuse options on how a dataset is read if there is none."""
    given = [f"data.{name}={value}" for name, value in data if value != getattr(DEFAULT_DATA, name)]
    if split != DEFAULT_SPLIT:
        given.append(f"--split {split}")
    if given:
        raise ConfigError(
            f"{given[0]}: has no effect without --check, as the file is compared on synthetic scenes; leave it out, or "
            "pass labelled images with --check"
        )


def _refuse_emulated_bf16(target_format: Format, precision: str, device: str) -> None:
    """Refuse bf16 where the runtime computes in fp32 instead: the comparison would pass and show nothing.

    fp16 is different: it rounds the weights in the file, and the comparison shows their effect.
    """
    backend = target_format.backend
    if precision == "bf16" and (computed := backend.computed_precision(precision, device)) != "bf16":
        raise ConfigError(
            f"--format {backend.format} --precision bf16: {backend.name} computes in {computed} on this {device}, so "
            "bf16 cannot be checked here; export on a machine with bf16, or export in fp32, which has the same weights "
            "and runs in bf16 there (predict --precision bf16)"
        )
