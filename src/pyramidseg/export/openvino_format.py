"""OpenVINO: an `.xml` with the graph and a `.bin` with the weights."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidseg.backends.metadata import CHECKSUM, CHECKSUM_PLACEHOLDER, ExportMetadata, file_checksum
from pyramidseg.backends.openvino_backend import METADATA_KEY, WEIGHTS_CHECKSUM, shared_core
from pyramidseg.base.errors import import_extra
from pyramidseg.base.files import file_sha256

if TYPE_CHECKING:
    import onnx


def save(content: "onnx.ModelProto", path: Path, metadata: ExportMetadata) -> None:
    """Write an ONNX model as both files.

    Weights are stored in float32 for `fp32` and `bf16` (chosen at run time), and in float16 for `fp16`. OpenVINO's own
    default is float16. The `.xml` has the metadata, the checksum of the `.bin`, and its own checksum.
    """
    serialized = content.SerializeToString()  # the model keeps reading its weights from here
    model = shared_core().read_model(serialized)
    openvino = import_extra("openvino", extra="openvino", purpose="exporting to OpenVINO")
    openvino.save_model(model, path, compress_to_fp16=metadata.precision == "fp16")
    root = ElementTree.parse(path).getroot()  # noqa: S314  (written just before)
    notes = root.find("rt_info")
    assert notes is not None
    ours = ElementTree.SubElement(notes, METADATA_KEY)
    texts = {**metadata.to_strings(), WEIGHTS_CHECKSUM: file_sha256(path.with_suffix(".bin"))}
    for name, text in {**texts, CHECKSUM: CHECKSUM_PLACEHOLDER}.items():
        checksum = ElementTree.SubElement(ours, name, {"value": text})
    checksum.set("value", file_checksum(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)))
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
