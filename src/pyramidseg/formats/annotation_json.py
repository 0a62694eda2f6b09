"""Find the JSON files of a labelling tool, which have no fixed name."""

from pathlib import Path

from pyramidseg.formats.json_kind import JsonKind, json_kind
from pyramidseg.formats.paths import content, subfolders

_MAX_FILES = 200
"""A folder with more JSON files has one for each image, which is another format."""


def annotation_json_files(folder: Path, kind: JsonKind) -> tuple[Path, ...]:
    """The files of a kind in a folder and in those in it; if there are some, damaged ones too, for their defects."""
    found: dict[Path, JsonKind] = {}
    for place in (folder, *subfolders(folder)):
        files = [path for path in content(place) if path.suffix.lower() == ".json" and path.is_file()]
        if len(files) <= _MAX_FILES:
            found |= {path: shown for path in files if (shown := json_kind(path)) in (kind, "damaged")}
    return tuple(found) if kind in found.values() else ()
