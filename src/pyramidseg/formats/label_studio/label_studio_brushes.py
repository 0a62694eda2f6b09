"""Label Studio's exports "Brush labels to PNG" and "to NumPy": a mask for each brush, named after its task.

    task-12-annotation-5-by-1-tag-road-0.png    (annotation 5, the first brush of the control `tag` with the label road)

Only the project's JSON or JSON_MIN has the image of a task. Source of the names: label_studio_sdk.converter.brush.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from unicodedata import normalize

from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.formats.dataset_format import PartialMatch
from pyramidseg.formats.paths import first_child
from pyramidseg.images.image_files import list_files

BrushFiles = Mapping[str, Mapping[str, Path]]
"""By the number of the annotation, and by `brush_names`."""

_NAME = re.compile(r"task-\d+-annotation-(\d+)-by-[^-]*-(.+)\.(?:png|npy)")


def refuse_brush_files(folder: Path | None) -> None:
    """Raise `PartialMatch` for a folder of these masks, where nothing names their images."""
    first = folder and first_child(folder)
    if first and _NAME.fullmatch(first.name):
        raise PartialMatch(
            f"{folder}: its masks are named after Label Studio's tasks, not after images: export JSON or JSON_MIN of "
            f"the same project, which has the image of each task, to {first.parent.parent}, and open that folder "
            "without naming folders of masks"
        )


def find_brush_files(root: Path, defects: DefectCollector) -> BrushFiles:
    """All such masks in and below a folder; two of the same name are a defect."""
    found: dict[str, dict[str, Path]] = {}
    for file in list_files(root, (".png", ".npy")):
        if match := _NAME.fullmatch(normalize("NFC", file.name)):
            own = found.setdefault(match[1], {})
            with defects.collect():
                if match[2] in own:
                    raise DefectError(DefectKind.SAME_STEM, file, f"is the same brush as {own[match[2]]}; remove one")
                own[match[2]] = file
    return found


def brush_names(brushes: Iterable[tuple[object, list[str]]]) -> list[str]:
    """The last part of the names of an annotation's masks, from control and labels of its brushes in their order."""
    joined = ("-".join([str(control), *labels]) for control, labels in brushes)
    names = [normalize("NFC", re.sub(r"[/\\]", "-", name)) for name in joined]
    return [f"{name}-{names[:at].count(name)}" for at, name in enumerate(names)]
