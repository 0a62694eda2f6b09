"""OpenVINO: an `.xml` with the graph and a `.bin` with the weights."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from torch.export import ExportedProgram

from pyramidseg.backends.metadata import CHECKSUM, CHECKSUM_PLACEHOLDER, ExportMetadata, file_checksum
from pyramidseg.backends.openvino_backend import (
    METADATA_KEY,
    WEIGHTS_CHECKSUM,
    import_openvino,
    shared_core,
    weights_checksum,
)
from pyramidseg.export.onnx_format import to_onnx


class OpenVinoFile:
    """A program as an OpenVINO model, converted through ONNX.

    Weights are stored in float32 for `fp32` and `bf16` (chosen at run time), and in float16 for `fp16`. OpenVINO's own
    default is float16.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self._openvino = import_openvino("exporting to OpenVINO")
        self._onnx = to_onnx(program).SerializeToString()  # the model keeps reading its weights from here
        self._content = shared_core().read_model(self._onnx)

    def save(self, path: Path, metadata: ExportMetadata) -> None:
        """Write both files; the `.xml` has the metadata, the checksum of the `.bin`, and its own checksum."""
        self._openvino.save_model(self._content, path, compress_to_fp16=metadata.precision == "fp16")
        tree = ElementTree.parse(path)  # noqa: S314  (written just before)
        notes = tree.getroot().find("rt_info")
        assert notes is not None
        weights = weights_checksum(path.with_suffix(".bin"))
        ours = ElementTree.SubElement(notes, METADATA_KEY)
        for name, text in {**metadata.to_strings(), WEIGHTS_CHECKSUM: weights}.items():
            ElementTree.SubElement(ours, name, {"value": text})
        path.write_bytes(with_checksum(tree.getroot(), ours))


def with_checksum(root: ElementTree.Element, ours: ElementTree.Element) -> bytes:
    """The content of an `.xml` with its checksum added to the metadata `ours`."""
    checksum = ElementTree.SubElement(ours, CHECKSUM, {"value": CHECKSUM_PLACEHOLDER})
    checksum.set("value", file_checksum(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)))
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content
