"""Writer of Hugging Face image folders: masks of class ids, metadata.jsonl for each split, and id2label.json."""

import json
from collections.abc import Mapping

from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.paired_writer import png


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    mask = f"masks/{image.name}.png"
    row = {"file_name": f"images/{image.name}{image.image.suffix}", "mask_file_name": mask}
    return WrittenLabels({f"{image.split}/{mask}": png(image.labels)}, row)


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    for split, some in parts.items():
        rows = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for _, row in some)
        yield f"{split}/metadata.jsonl", rows
    names = json.dumps({str(index): name for index, name in enumerate(classes.names)}, ensure_ascii=False, indent=2)
    yield "id2label.json", iter([names.encode()])


HUGGINGFACE = LabelWriter("{split}/images/{name}", _encode, _assemble)
