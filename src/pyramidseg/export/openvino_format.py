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
    """A program as an OpenVINO model, by way of ONNX.

    The weights are float32 for `fp32` and `bf16`, which is a choice at run time, and half as large for `fp16`. Without
    being told, OpenVINO would store fp16 in any case.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self._openvino = import_openvino("exporting to OpenVINO")
        self._onnx = to_onnx(program).SerializeToString()  # the model below goes on reading its weights from here
        self._content = shared_core().read_model(self._onnx)

    def save(self, path: Path, card: ExportMetadata) -> None:
        """Write both files, the `.xml` with this card, the checksum of the `.bin` and its own."""
        self._openvino.save_model(self._content, path, compress_to_fp16=card.precision == "fp16")
        tree = ElementTree.parse(path)  # noqa: S314  (written a line ago)
        notes = tree.getroot().find("rt_info")
        assert notes is not None
        weights = weights_checksum(path.with_suffix(".bin"))
        ours = ElementTree.SubElement(notes, METADATA_KEY)
        for name, text in {**card.to_strings(), WEIGHTS_CHECKSUM: weights}.items():
            ElementTree.SubElement(ours, name, {"value": text})
        path.write_bytes(sealed(tree.getroot(), ours))


def sealed(root: ElementTree.Element, ours: ElementTree.Element) -> bytes:
    """The content of an `.xml` whose metadata, `ours`, get the checksum of it all."""
    seal = ElementTree.SubElement(ours, CHECKSUM, {"value": CHECKSUM_PLACEHOLDER})
    seal.set("value", file_checksum(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)))
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content
