"""Export: a bundle to a file for another runtime, which is checked before anybody can find it."""

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pyramidseg.backends import EXPORTED, TorchBackend
from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.metadata import COARSE, INPUT_DTYPES, LOGITS, ExportMetadata
from pyramidseg.backends.metadata import KIND as EXPORT
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, OutputError, PyramidSegError, WeightsError, nearest
from pyramidseg.base.files import write_atomically, write_json
from pyramidseg.base.version import __version__
from pyramidseg.export.graph import capture
from pyramidseg.export.parity import Comparison, Parity
from pyramidseg.export.samples import Samples, default_dtype, labelled_samples, made_samples
from pyramidseg.export.staging import staging
from pyramidseg.export.targets import Format, find_format
from pyramidseg.model.bundle import KIND
from pyramidseg.model.segmenter import Segmenter, load_model
from pyramidseg.model.tensor_files import CHECKSUM, read_metadata
from pyramidseg.predict.outputs import is_ours

logger = logging.getLogger(__name__)

TIMED_RUNS = 9
"""Pairs of runs, of this backend and the other one, whose medians are the latencies."""

TIMED_SECONDS = 10.0
"""After which no further pair begins."""

DEFAULT_DATA = DataConfig()

DEFAULT_SPLIT = "val"


@dataclass(frozen=True)
class Export:
    """What an export came to.

    Attributes:
        path: the file to open; None if it was past the tolerance, and nothing was written.
        report: the parity report beside it.
        parity: how it was checked.
    """

    path: Path | None
    report: Path | None
    parity: Parity

    @property
    def findings(self) -> tuple[str, ...]:
        """Why nothing was written."""
        return self.parity.findings()


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
) -> Export:
    """Write a bundle for another runtime, unless it predicts something else there.

    The file is `<bundle>.onnx`, `.xml` with `.bin`, or `.pt2`, with `-fp16` or `-bf16` before the dot, and
    `<file>.parity.json` is beside it. An earlier export of that name is replaced; anybody else's file is not.

    Args:
        format: a key of `FORMATS`.
        precision: `fp32`, `fp16` or `bf16`, as far as the format has it.
        out: folder; by default the bundle's.
        input_dtype: type of the images that the file takes: `uint8`, `uint16`, `float32` (which takes them all in this
            library), or `auto`: that of the images in `check`, else `default_dtype`.
        check: a labelled dataset with the model's classes; by default made scenes without labels.
        split, data: which split of it, and how it is read.
        device: that runs the file in its check.

    Raises:
        ConfigError: an export instead of a bundle; a format, precision or type that does not exist, or that the images
            in `check` are not of; `split` or `data` without `check`; a precision that cannot be checked here; or an
            encoder that the format cannot hold.
        DeviceError: the runtime does not have the device.
        MissingExtra: the format's libraries are not installed.
        WeightsError: the bundle cannot be read.
        DataError: the images cannot be used.
        OutputError: a file of somebody else is in the way, or the place cannot be written.
    """
    path = Path(model)
    chosen = find_format(format, precision)
    if input_dtype not in ("auto", *INPUT_DTYPES):
        raise ConfigError(f"--input {input_dtype}: no such type; {nearest(input_dtype, ['auto', *INPUT_DTYPES])}")
    if path.suffix in EXPORTED and path.is_file():
        raise ConfigError(f"{path}: is an export already; name the bundle (.safetensors) that it was made from")
    if check is None:
        _refuse_without_effect(split, data)
    chosen.backend.check_device(device)
    _refuse_unchecked(chosen, precision, device)
    segmenter = load_model(path)
    target = _target(path, chosen, precision, None if out is None else Path(out))
    _refuse_taken(target, chosen)
    samples = (
        made_samples(segmenter, default_dtype(segmenter) if input_dtype == "auto" else input_dtype)
        if check is None
        else labelled_samples(segmenter, check, split, data)
    )
    if input_dtype != "auto" and not samples.takes(input_dtype):
        raise ConfigError(
            f"--input {input_dtype}: the images of --check {check} need {samples.dtype}, or float32, which takes all "
            "types; choose one of these, or leave --input out"
        )
    card = ExportMetadata(
        precision=precision,
        input_dtype=samples.dtype if input_dtype == "auto" else input_dtype,
        classes=segmenter.classes,
        settings=segmenter.settings,
        mean=tuple(segmenter.mean.tolist()),
        std=tuple(segmenter.std.tolist()),
        source={"file": path.name, CHECKSUM: read_metadata(path, kind=KIND)[CHECKSUM]},
    )
    logger.info(f"{path}: to {format} {precision}, for {card.input_dtype} images of any size")
    file = chosen.convert(capture(segmenter, precision=chosen.graphs[precision], input_dtype=card.input_dtype))
    with staging(target) as staged:
        file.save(staged, card)
        backend = chosen.backend(staged, device=device, outputs=(LOGITS, COARSE))
        if backend.place == "cpu" and precision in chosen.slow_on_processors:
            logger.info(chosen.slow_on_processors[precision])
        logger.info(f"checking on {samples}")
        parity = check_parity(backend, segmenter, samples, predicting=chosen.backend(staged, device=device))
        if parity.findings():
            return Export(None, None, parity)
        file.save(staged, replace(card, parity=parity.to_dict()))
        return Export(target, _publish(staged, target, chosen, parity, card), parity)


@torch.inference_mode()
def check_parity(
    backend: ExportedBackend, segmenter: Segmenter, samples: Samples, *, predicting: ExportedBackend
) -> Parity:
    """Run a file, which has to give both outputs, and the model that it is to equal, on the same images.

    Args:
        predicting: the file as `predict` and `evaluate` run it; on the pieces only.
    """
    everything, pieces = Comparison(segmenter.classes), Comparison(segmenter.classes)
    for piece in samples.pieces:
        expected = segmenter(piece)
        for logits in (_logits_of(backend, _full_size(backend), piece), _logits_of(predicting, predicting, piece)):
            everything.add(expected, logits)
            pieces.add(expected, logits)
    largest = samples.pieces[-1][:1]
    for images, truth in samples.whole:
        everything.add(segmenter(images), _logits_of(backend, _full_size(backend), images), truth)
        largest = max(largest, images[:1], key=Tensor.numel)
    reference = TorchBackend(segmenter, device=backend.compute_device or backend.device)
    return everything.result(
        pieces_agreement=pieces.clear_agreement,
        precision=backend.metadata.precision,
        runtime=f"{backend.name} {backend.precision} on {backend.place}",
        images=str(samples),
        latency_ms=_latencies(reference, backend, largest),
        latency_against=str(reference),
        latency_size=(largest.shape[-2], largest.shape[-1]),
    )


def _full_size(backend: ExportedBackend) -> Callable[[Tensor], Tensor]:
    """The file's own full-size output."""
    return lambda images: backend.run(images)[LOGITS]


def _logits_of(backend: ExportedBackend, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """What a file says of images, at their size, on the CPU.

    Raises:
        ConfigError: nothing, or not for all of their pixels.
    """
    expected = (len(images), len(backend.classes), *images.shape[-2:])
    try:
        logits = compute(images).cpu()
    except PyramidSegError:
        raise
    except Exception as error:  # each runtime raises kinds of its own
        found = " ".join(str(error).split())[:300]
    else:
        if logits.shape == expected:
            return logits
        found = f"logits of shape {tuple(logits.shape)}"
    raise ConfigError(
        f"encoder={backend.settings.encoder}: cannot be exported to {backend.format}: for images of shape "
        f"{tuple(images.shape)} the file gives {found}; another --format may do, and the bundle runs in torch"
    )


def _latencies(before: TorchBackend, after: ExportedBackend, image: Tensor) -> tuple[float, float]:
    """Medians in ms of one image to logits of its size, run in turns, so that both meet the machine's other work.

    Where a run takes seconds, one pair has to do.
    """

    def once(run: Callable[[Tensor], object]) -> float:
        started = time.perf_counter()
        run(image)
        if before.device.type == "cuda":
            torch.cuda.synchronize(before.device)
        return 1000 * (time.perf_counter() - started)

    once(before), once(after.run)  # the first ones prepare
    pairs: list[tuple[float, float]] = []
    began = time.perf_counter()
    while not pairs or (len(pairs) < TIMED_RUNS and time.perf_counter() - began < TIMED_SECONDS):
        pairs.append((once(before), once(after.run)))
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second)


def _target(bundle: Path, chosen: Format, precision: str, out: Path | None) -> Path:
    suffix = "" if precision == "fp32" else f"-{precision}"
    return (bundle.parent if out is None else out) / f"{bundle.stem}{suffix}{chosen.suffix}"


def _refuse_taken(target: Path, chosen: Format) -> None:
    """Only an earlier export may be replaced."""
    if target.parent.exists() and not target.parent.is_dir():
        raise OutputError(f"{target.parent}: a file, not a folder; choose another --out")
    for suffix in chosen.suffixes:
        file = target.with_suffix(suffix)
        if not file.exists():
            continue
        try:
            ours = chosen.backend.read_metadata_strings(target).get("format") == EXPORT
        except WeightsError:
            ours = False
        if not ours:
            raise OutputError(f"{file}: exists and was not exported by pyramidseg; choose another --out")
    if (report := _report_of(target)).exists() and not is_ours(report):
        raise OutputError(f"{report}: exists and was not written by pyramidseg; choose another --out")


def _refuse_without_effect(split: str, data: DataConfig) -> None:
    """Refuse what says how the data of a check is read, where there is none."""
    given = [f"data.{name}={value}" for name, value in data if value != getattr(DEFAULT_DATA, name)]
    if split != DEFAULT_SPLIT:
        given.append(f"--split {split}")
    if given:
        raise ConfigError(
            f"{given[0]}: has no effect without --check, as the file is checked on made scenes; leave it out, or name "
            "labelled images by --check"
        )


def _refuse_unchecked(chosen: Format, precision: str, device: str) -> None:
    """OpenVINO computes in fp32 what the processor cannot multiply in bf16: such a check would pass, and show nothing.

    fp16 is another matter: what is checked there is the weights, which are rounded in the file.
    """
    backend = chosen.backend
    if precision == "bf16" and (computed := backend.computed_precision(precision, device)) != "bf16":
        raise ConfigError(
            f"--format {backend.format} --precision bf16: {backend.name} computes in {computed} on this {device}, so "
            "that bf16 cannot be checked here; export where the processor has bf16, or in fp32, which holds the same "
            "weights and runs in bf16 there (predict --precision bf16)"
        )


def _report_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.parity.json")


def _publish(staged: Path, target: Path, chosen: Format, parity: Parity, card: ExportMetadata) -> Path:
    """Move the files to where they are found, the one that is opened last; and the report beside it."""
    report = _report_of(target)
    for suffix in chosen.suffixes:
        write_atomically(target.with_suffix(suffix), staged.with_suffix(suffix).replace)
    content = {
        "pyramidseg": __version__,
        "file": target.name,
        "source": dict(card.source),
        "parity": parity.to_dict(),
    }
    write_json(report, content)
    return report
