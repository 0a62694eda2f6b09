"""export: convert a bundle for ONNX Runtime, OpenVINO, torch.export, browsers or phones, if the predictions agree."""

import argparse
import logging

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.remote_files import is_url
from pyramidseg.base.text import show
from pyramidseg.cli.flags import FINDINGS, add_as_written, add_reading_settings, image_size, values_of

logger = logging.getLogger(__name__)

FORMATS = ("onnx", "openvino", "torch", "executorch", "litert", "coreml", "or web")

PROGRAMS = {
    "cvat-nuclio": {"model", "out"},
    "deepness": {"model", "out", "settings", "check", "split", "as_written", "opset", "size", "resolution_cm"},
}
"""Options that have an effect, by the value of --for."""

GENERAL = {"command", "default", "program", "quiet", "verbose"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a bundle such as RUN/best.safetensors")
    add_reading_settings(parser)
    add("--format", help=f"{', '.join(FORMATS)}: a page without a server (no default)")
    text = "instead of --format: a folder for CVAT's functions, or a file for QGIS's plugin (no default)"
    add("--for", dest="program", choices=list(PROGRAMS), help=text)
    add("--precision", default="fp32", help="fp32, fp16, bf16 or int8; not every format has all")
    text = "folder for the file and its parity report (default: the bundle's folder); web: or NAME.html"
    add("--out", metavar="DIR", help=text)
    text = "dtype of images: uint8, uint16, float32, or auto: that of --check, else uint8 (float32 after normalisation "
    add("--input", dest="input_dtype", default="auto", help=f"{text}with a dataset's statistics, and for phones)")
    text = "labelled images to compare predictions on (default: synthetic scenes, or those of --calibrate)"
    add("--check", metavar="DATASET", help=text)
    add("--calibrate", metavar="DATASET", help="for int8: images to measure ranges on (no default)")
    add("--calibration-images", type=int, default=64, metavar="N", help="how many of these, at random")
    add("--target", default="any", help="for int8: processors, any, avx2, or vnni (8 bits, not 7)")
    add("--tolerance", type=float, metavar="POINTS", help="change of mIoU (default: by precision)")
    add("--split", default="val", help="split of --check")
    add("--device", default="cpu", help="device that runs the exported file in the comparison")
    add_as_written(parser)
    add("--opset", type=int, help="of ONNX's operations: 18 to 23, with --size from 14 (default: 20)")
    add("--size", type=image_size, metavar="HxW", help="the only size of its images (default: any)")
    add("--batch-size", type=int, default=1, metavar="N", help="number of images, with --size")
    add("--resolution", dest="resolution_cm", type=float, metavar="CM_PER_PX", help="for deepness (default: bundle's)")
    add("--output", default="logits", help="what the file gives: logits, labels or probabilities")
    parser.set_defaults(default=parser.get_default)


def run(arguments: argparse.Namespace) -> int:
    """Export and compare; status 3 and no file if the predictions differ."""
    if (arguments.format is None) == (arguments.program is None):
        raise ConfigError(f"pyramidseg export: give --format {', '.join(FORMATS)}; or --for {' or '.join(PROGRAMS)}")
    _refuse_unused(arguments)
    if arguments.program == "cvat-nuclio":
        return _write_nuclio_folder(arguments)
    from pyramidseg.export.deepness import TILE_PX, export_for_deepness
    from pyramidseg.export.export_model import export_model
    from pyramidseg.formats.dataset_statements import reading_config

    common = values_of(arguments, "out", "check", "split", "as_written", "opset")
    common["data"] = reading_config(arguments.settings)
    if arguments.program == "deepness":
        height, width = arguments.size or (TILE_PX, TILE_PX)
        if height != width:
            raise ConfigError(f"--size {height}x{width}: Deepness cuts square windows; give --size {height}x{height}")
        export = export_for_deepness(arguments.model, tile_px=height, resolution_cm=arguments.resolution_cm, **common)
    else:
        common |= values_of(arguments, "format", "precision", "device", "size", "batch_size", "output", "target")
        common |= values_of(arguments, "calibrate", "calibration_images", "tolerance", "input_dtype")
        export = export_model(arguments.model, **common)
    if export.parity is not None:
        show(f"{export.parity.runtime} compared with the bundle in torch fp32:")
        show(export.parity.table())
        if export.path is None:
            logger.warning(f"nothing was written: {'; '.join(export.parity.findings())}")
            return FINDINGS
    show(f"file: {export.path}")
    show(f"report: {export.report}")
    return 0


def _write_nuclio_folder(arguments: argparse.Namespace) -> int:
    from pyramidseg.export.cvat_nuclio import write_nuclio_folder

    if arguments.out is None and is_url(arguments.model):
        raise ConfigError(f"{arguments.model}: a URL needs --out DIR")
    folder = arguments.out or f"{arguments.model.removesuffix('.safetensors')}-cvat-nuclio"
    write_nuclio_folder(arguments.model, folder)
    show(f"folder: {folder}")
    return 0


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """Refuse options that have no effect."""
    unused = vars(arguments).keys() - PROGRAMS[arguments.program] - GENERAL if arguments.program else {"resolution_cm"}
    for name in sorted(unused):
        if getattr(arguments, name) != arguments.default(name):
            where = "without --for deepness" if arguments.program is None else f"with --for {arguments.program}"
            raise ConfigError(f"`{name}`: has no effect {where}; leave it out")
