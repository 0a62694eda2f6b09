"""`export_model`: a bundle to a file for another runtime, published only if it predicts the same as the bundle."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyramidseg.backends import EXPORTED
from pyramidseg.backends.exported_backend import check_target
from pyramidseg.backends.metadata import COARSE, INPUT_DTYPES, LOGITS, ExportMetadata, Program
from pyramidseg.backends.metadata import KIND as EXPORT
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, OutputError, WeightsError, nearest
from pyramidseg.base.files import explained_writes, temporary_folder, write_atomically, write_json
from pyramidseg.base.output_lock import locked
from pyramidseg.base.remote_files import is_url, local_copy
from pyramidseg.base.version import __version__
from pyramidseg.export import onnx_format, web
from pyramidseg.export.graph import capture
from pyramidseg.export.parity import Parity, check_parity
from pyramidseg.export.program_file import WithOutput, check_program, check_program_file
from pyramidseg.export.quantization import DEFAULT_IMAGES, Calibration, Quantizer
from pyramidseg.export.samples import default_dtype, labelled_samples, synthetic_samples
from pyramidseg.export.targets import Format, find_format
from pyramidseg.model.bundle import KIND
from pyramidseg.model.segmenter import load_model
from pyramidseg.model.tensor_files import CHECKSUM, read_metadata
from pyramidseg.predict.outputs.ownership import is_ours

logger = logging.getLogger(__name__)

DEFAULT_DATA = DataConfig()

DEFAULT_SPLIT = "val"


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes:
        path: the file to open; None if its predictions differ too much, so that nothing was written.
        report: the parity report next to it; None as `path`.
        parity: the comparison with the bundle; its `findings` say why nothing was written.
    """

    path: Path | None
    report: Path | None
    parity: Parity


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
    batch: int = 1,
    output: str = LOGITS,
    calibrate: str | Path | None = None,
    calibration_images: int = DEFAULT_IMAGES,
    target: str = "any",
    tolerance: float | None = None,
) -> Export:
    """Export a bundle for another runtime, unless the file predicts something else there.

    The file is `<bundle>.onnx`, `.xml` with `.bin`, or `.pt2`, with `-fp16`, `-bf16` or `-int8` before the dot, or a
    page (`web.page_path`), and `<file>.parity.json` next to it. An earlier export of that name is replaced; other files
    never are.

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
        batch: number of images, with `size`.
        output: `logits`, `labels` or `probabilities`.
        calibrate: for int8, a dataset with images (split train) to measure the ranges of activations on.
        calibration_images: number of these; images that are also checked on are left out.
        target: for int8, the processors: a key of `TARGETS`.
        tolerance: largest change of mIoU in points (hundredths), instead of that of the precision.

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
    path = local_copy(model)
    target_format = find_format(format, precision)
    if input_dtype not in ("auto", *INPUT_DTYPES):
        raise ConfigError(f"--input {input_dtype}: unknown type; {nearest(input_dtype, ['auto', *INPUT_DTYPES])}")
    if path.suffix in EXPORTED and path.is_file():
        raise ConfigError(f"{path}: is already an export; pass the bundle (.safetensors) that it was made from")
    program = None if size is None and output == LOGITS else Program(output, size, batch)
    check_program(format, opset, program)
    if (program is not None or format == "web") and device != "cpu":
        raise ConfigError(
            f"--device {device}: pages and files with another output or size are checked on the cpu; leave it out"
        )
    if size is None and batch != 1:
        raise ConfigError(f"--batch {batch}: has no effect without --size, as the file takes any number of images")
    if (precision == "int8") != (calibrate is not None) or (
        (precision != "int8" and (target, calibration_images) != ("any", DEFAULT_IMAGES)) or (calibrate and program)
    ):
        raise ConfigError(
            "--precision int8: needs --calibrate DATASET, images (split train) to measure ranges of activations on; "
            "--calibrate, --calibration-images and --target are for int8 only, --size and --output are not for int8"
        )
    check_target(target, "--target")
    check = calibrate if check is None else check
    if tolerance is not None and (check is None or precision == "fp32" or not 0 < tolerance <= 100):
        raise ConfigError(
            f"--tolerance {tolerance:g}: is the largest change of mIoU in points, above 0, in fp16, bf16 and int8, "
            "and needs labelled images: --check DATASET"
        )
    if check is None:
        _refuse_unused_options(split, data)
    target_format.backend.check_device(device)
    _refuse_emulated_bf16(target_format, precision, device)

    segmenter = load_model(path)
    parts = [] if size is None else [f"-{size[0]}x{size[1]}", f"-b{batch}" if batch > 1 else ""]
    parts += ["" if output == LOGITS else f"-{output}", "" if precision == "fp32" else f"-{precision}"]
    suffix = "".join(parts) + target_format.backend.suffix
    file = Path(path.parent if out is None else out) / f"{path.stem}{suffix}"
    if format == "web":
        web.check_possible(segmenter)
        file = web.page_path(file, out)
    with locked(file.parent, file=file.name):
        _refuse_foreign_files(file, target_format)
        if check is None:
            dtype = default_dtype(segmenter) if input_dtype == "auto" else input_dtype
            read_samples = partial(synthetic_samples, segmenter, web.image_dtype(dtype) if format == "web" else dtype)
            samples = read_samples()
        else:
            read_samples = partial(labelled_samples, segmenter, check, split, data)
            samples = read_samples()
            dtype = samples.dtype if input_dtype == "auto" else input_dtype
            if dtype not in ("float32", samples.dtype):
                raise ConfigError(
                    f"--input {dtype}: the images of --check {check} need {samples.dtype}, or float32, which takes all "
                    "types; choose one of these, or leave --input out"
                )

        metadata = ExportMetadata(
            precision=precision,
            input_dtype=dtype,
            classes=segmenter.classes,
            settings=segmenter.settings,
            mean=tuple(segmenter.mean.tolist()),
            std=tuple(segmenter.std.tolist()),
            value_range=segmenter.value_range,
            source={"file": path.name, CHECKSUM: read_metadata(path, kind=KIND)[CHECKSUM]},
            program=program,
        )
        wanted = f"for {dtype} images of any size" if program is None else f"{program} for {dtype} images"
        logger.info(f"{path}: to {format} {precision}, {wanted}")
        graph = capture(
            segmenter,
            precision=target_format.graphs[precision],
            input_dtype=dtype,
            as_written=as_written,
            change=lambda graph: graph if program is None else WithOutput(graph, program.output),
            shape=None if size is None else (batch, *size),
        )
        content: Any = graph
        if format in ("onnx", "openvino"):
            content = onnx_format.to_onnx(
                graph, outputs=(LOGITS, COARSE) if program is None else (output,), opset=opset
            )
        save = web.convert(graph, segmenter) if format == "web" else partial(target_format.save, content)

        with explained_writes(file), temporary_folder(file) as folder:  # where files can be renamed to the file
            staged = folder / file.name

            def compare() -> Parity:
                again = samples if calibrate is None else read_samples()
                if format == "web":
                    found = web.check_page(staged, segmenter, again)
                elif program is not None:
                    found = check_program_file(staged, metadata, segmenter, again)
                else:
                    backend = target_format.backend(staged, device=device, outputs=(LOGITS, COARSE))
                    predicting = target_format.backend(staged, device=device)
                    found = check_parity(backend, segmenter, again, predicting=predicting)
                return found if tolerance is None else replace(found, tolerance=tolerance / 100)

            logger.info(f"checking on {samples}")
            if calibrate is not None:
                images = Calibration(segmenter, calibrate, data, calibration_images, dtype=dtype, gate=samples.files)
                quantizer = Quantizer(content, images, target=target)
                content, metadata, parity = quantizer.write_until_close(
                    staged, metadata, format=target_format, device=device, compare=compare
                )
                save = partial(target_format.save, content)
            else:
                save(staged, metadata)
                parity = compare()
            if parity.findings():
                return Export(None, None, parity)
            metadata = replace(metadata, parity=parity.to_dict())
            save(staged, metadata)
            for each in target_format.files(file):  # the file that is opened comes last
                write_atomically(each, staged.with_name(each.name).replace)
            report = _report_path(file)
            source = {"file": file.name, "source": dict(metadata.source)}
            write_json(report, {"pyramidseg": __version__, **source, "parity": metadata.parity})
            return Export(file, report, parity)


def _report_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.parity.json")


def _refuse_foreign_files(target: Path, target_format: Format) -> None:
    """Allow only earlier exports to be replaced."""
    for file in target_format.files(target):
        if not file.exists():
            continue
        try:
            if target.suffix == ".html":
                ours = is_ours(_report_path(target))
            else:
                ours = target_format.backend.read(target)[1].get("format") == EXPORT
        except WeightsError:
            ours = False
        if not ours:
            raise OutputError(f"{file}: exists and was not exported by pyramidseg; choose another --out, or remove it")
    if (report := _report_path(target)).exists() and not is_ours(report):
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
