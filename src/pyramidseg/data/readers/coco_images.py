"""The images that a COCO file names, on the disk."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.data.defect_kinds import Defect, DefectError, Kind
from pyramidseg.data.image_files import list_images
from pyramidseg.data.readers.coco_json import CocoJson, read_coco_json
from pyramidseg.data.readers.coco_layout import image_folder
from pyramidseg.data.readers.listing import SplitFolders
from pyramidseg.data.references import is_file, named_file


@dataclass(frozen=True)
class CocoImages:
    """Images by the position that they have in their file; those that cannot be used are defects instead.

    Attributes:
        ids: of the records.
    """

    folder: Path
    paths: dict[int, Path]
    ids: dict[int, str]
    defects: tuple[Defect, ...]


@dataclass(frozen=True)
class CocoSplits:
    """The files of all splits, and their images; one that cannot be used at all is a defect instead, be it the last."""

    files: dict[str, CocoJson]
    images: dict[str, CocoImages]
    defects: tuple[Defect, ...]
    notes: tuple[str, ...]


def read_splits(
    listed: Mapping[str, Path], root: Path, splits: SplitFolders, *, check: Callable[[CocoJson], object]
) -> CocoSplits:
    """Read the file of each split and look for its images. A test split without images or labels is left out, aloud.

    Args:
        check: raises where a file is not of the kind that is read.
    """
    files: dict[str, CocoJson] = {}
    images: dict[str, CocoImages] = {}
    defects: list[Defect] = []
    notes: list[str] = []
    for split, path in listed.items():
        try:
            file = read_coco_json(path)
            if split == "test" and not (file.images and len(file.image_numbers)) and not file.flaws.defects:
                notes.append(f"the test split ({path}) has no labels and was left out")
                continue
            defects += file.flaws.defects
            check(file)
            images[split] = find_images(file, root, splits[split])
        except DefectError as error:
            if split == "test" and error.defect.kind is Kind.ABSENT:
                notes.append(f"the test split was left out: {error}")
            else:
                defects += error.defects
        else:
            files[split] = file
            defects += images[split].defects
    return CocoSplits(files, images, tuple(defects), tuple(notes))


def find_images(file: CocoJson, root: Path, split_folders: Iterable[str]) -> CocoImages:
    """Look for all images of a file.

    Raises:
        DataError: there is none.
    """
    if not file.images:
        raise DefectError(Kind.BAD_ANNOTATION, file.path, "lists no images; export it anew")
    names = [entry.file_name for entry in file.images.values()]
    folder = image_folder(file.path, root, names, split_folders)
    known = set(list_images(folder))
    paths: dict[int, Path] = {}
    position_by_id: dict[str, int] = {}
    defects: list[Defect] = []
    for position, name in enumerate(names):
        try:
            path = named_file(name, folder=folder, root=root, where=file.path)
        except DefectError as error:
            defects.append(error.defect)
            continue
        id = path.relative_to(folder if path.is_relative_to(folder) else root).with_suffix("").as_posix()
        if path not in known and not is_file(path):
            defects.append(Defect(Kind.ABSENT, path, f"{file.path} names it, and there is no such file"))
        elif id in position_by_id:
            other = paths[position_by_id[id]]
            kind = Kind.REPEATED_ID if other == path else Kind.SAME_STEM
            defects.append(Defect(kind, path, f"{file.path} lists {other} too"))
        else:
            paths[position], position_by_id[id] = path, position
    return CocoImages(folder, paths, {position: id for id, position in position_by_id.items()}, tuple(defects))


def image_notes(files: Mapping[str, CocoJson], found: Mapping[str, CocoImages]) -> Iterator[str]:
    """What was found and what was not, in words; both by split."""
    for split, file in files.items():
        if found[split].folder != file.path.parent:
            yield f"the {split} images of {file.path.name} are in {found[split].folder}"
        empty = len(file.images) - len(set(file.image_numbers[file.image_numbers >= 0].tolist()))
        if empty and not file.panoptic:
            yield f"{empty} of the {len(file.images)} {split} images have no object: they are all background"
    others = _unlisted(found.values())
    if others:
        yield f"{len(others)} images, such as {others[0]}, are in no annotation file and were left out"


def _unlisted(found: Iterable[CocoImages]) -> list[Path]:
    """Images that lie beside listed ones and that no file lists."""
    found = list(found)
    listed = {path for images in found for path in images.paths.values()}
    beside = {path.parent for path in listed}
    folders = {images.folder for images in found}
    return sorted(
        {path for folder in folders for path in list_images(folder) if path.parent in beside and path not in listed}
    )
