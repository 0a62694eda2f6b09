"""pyramidseg export: a bundle as a file for another runtime, checked against the bundle."""

import argparse
import logging

logger = logging.getLogger(__name__)

HELP = "write a bundle for ONNX Runtime, OpenVINO or torch.export, if it predicts the same there"

FINDINGS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `export`."""
    parser.add_argument("model", metavar="MODEL", help="a bundle, such as RUN/best.safetensors")
    parser.add_argument(
        "settings", nargs="*", default=[], metavar="data.key=value", help="how the data of --check is read"
    )
    parser.add_argument("--format", required=True, help="onnx, openvino or torch")
    parser.add_argument("--precision", default="fp32", help="fp32, fp16 or bf16, as far as the format has it (fp32)")
    parser.add_argument("--out", metavar="DIR", help="folder for the file and its parity report (the bundle's own)")
    parser.add_argument(
        "--input",
        default="auto",
        help="type of the images that the file takes: uint8, uint16, float32, or auto, "
        "which is that of the images in --check; without it uint8, or float32 where the model has its dataset's own "
        "mean and deviation",
    )
    parser.add_argument("--check", metavar="DATASET", help="labelled images to check the file on (made scenes)")
    parser.add_argument("--split", default="val", help="which split of DATASET (val)")
    parser.add_argument("--device", default="cpu", help="what runs the file in its check (cpu)")
    parser.set_defaults(collect="settings")


def run(arguments: argparse.Namespace) -> int:
    """Export and check; status 3, and no file, where the file predicts something else."""
    from pyramidseg.export.export_model import export_model
    from pyramidseg.formats.dataset_yaml import reading_config

    data = reading_config(arguments.settings)
    export = export_model(
        arguments.model,
        format=arguments.format,
        precision=arguments.precision,
        out=arguments.out,
        input_dtype=arguments.input,
        check=arguments.check,
        split=arguments.split,
        data=data,
        device=arguments.device,
    )
    print(f"in {export.parity.runtime}, against the bundle in torch fp32:")
    print(export.parity.table())
    if export.path is None:
        logger.warning(f"nothing was written: {'; '.join(export.findings)}")
        return FINDINGS
    print(f"file: {export.path}")
    print(f"report: {export.report}")
    return 0
