"""torch.export programs: a `.pt2` file that runs wherever torch does, and that AOTInductor can compile."""

import io
import json
import zipfile
from pathlib import Path

import torch
from torch.export import ExportedProgram

from pyramidseg.backends.metadata import ExportMetadata
from pyramidseg.backends.torch_export_backend import CHECKSUM_FILE, METADATA_FILE, archive_checksum


def save(program: ExportedProgram, path: Path, metadata: ExportMetadata) -> None:
    """Write a program with its metadata."""
    texts = json.dumps(metadata.to_strings(), ensure_ascii=False)
    content = io.BytesIO()  # torch ends the process where its own writer of files finds the disk full
    torch.export.save(program, content, extra_files={METADATA_FILE: texts})
    path.write_bytes(content.getbuffer())
    with zipfile.ZipFile(path, "a") as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/extra/{CHECKSUM_FILE}", archive_checksum(archive))
