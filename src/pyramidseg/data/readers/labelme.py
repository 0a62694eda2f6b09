"""LabelMe: a JSON file for each image, beside it or in a folder of its own, with a folder for each split or without."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from pyramidseg.data.defect_kinds import Defect, DefectError, Kind
from pyramidseg.data.image_files import list_files, list_images
from pyramidseg.data.masks.labelme import WITHOUT_AREA, LabelMeFile, LabelMeValues, kind_of, label_of, read_labelme
from pyramidseg.data.parallel import in_threads
from pyramidseg.data.readers.drawn_labels import DRAWN, DrawnLabels, alike
from pyramidseg.data.readers.folders import child_folder
from pyramidseg.data.readers.json_kinds import json_kind
from pyramidseg.data.readers.listing import USUAL_FOLDERS, Listing, SplitFolders
from pyramidseg.data.records import Record
from pyramidseg.data.references import is_file, named_file

_LOOKED_AT = 20


@dataclass
class _Found:
    """What the files of a split hold.

    Attributes:
        labels, kinds: shapes of each label and of each kind.
        others: JSON files that are not LabelMe's.
        renamed: files whose image has another name than they say.
    """

    records: dict[Path, Record] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    defects: list[Defect] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    renamed: int = 0


def read_labelme_folder(folder: Path, splits: SplitFolders) -> Listing | None:
    """List JSON files with the images that they name. An image without a file has not been labelled: it is left out."""
    everything = list_files(folder, (".json",))
    if not any(json_kind(file) == "labelme" for file in everything[:: max(1, len(everything) // _LOOKED_AT)]):
        return None
    places = _places(folder, splits)
    files = {split: list_files(place, (".json",)) for split, place in places.items()}
    if not any(files.values()):
        return None
    images = list_images(folder)
    found = {split: _find(some, images, places[split], folder) for split, some in files.items()}
    labels = sorted({label for split in found.values() for label in split.labels})
    drawn = DrawnLabels.of(labels)
    return Listing(
        "LabelMe (a JSON file for each image)",
        {split: tuple(some.records.values()) for split, some in found.items()},
        drawn.labels,
        LabelMeValues(drawn.values, drawn.names),
        notes=(*_notes(list(found.values()), images), *alike(labels)),
        defects=tuple(defect for some in found.values() for defect in some.defects),
    )


def _places(folder: Path, splits: SplitFolders) -> dict[str, Path]:
    """The folders of splits where there are any with JSON files, else the whole."""
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    places = {split: path for split, path in inside.items() if path and list_files(path, (".json",))}
    return places or ({"train": folder} if splits == USUAL_FOLDERS else {})


def _find(files: Sequence[Path], images: Sequence[Path], place: Path, root: Path) -> _Found:
    found = _Found()
    known = set(images)
    beside = {image.with_suffix(""): image for image in reversed(images)}
    for path, file in zip(files, in_threads(_read, files), strict=True):
        if isinstance(file, Defect):
            found.defects.append(file)
        elif file.shapes is None:
            found.others.append(path)
        else:
            _add(found, file, known, beside.get(path.with_suffix("")), place, root)
    if files and len(found.others) == len(files):
        detail = f"none of its {len(files)} JSON files is LabelMe's, as those of other splits are; export them anew"
        found.defects.append(Defect(Kind.ABSENT, place, detail))
    return found


def _read(path: Path) -> LabelMeFile | Defect:
    """The file without the points of its shapes, so that many of them may wait."""
    try:
        file = read_labelme(path)
    except DefectError as error:
        return error.defect
    for shape in file.shapes or []:
        if isinstance(shape, dict):
            shape.pop("points", None)
            shape.pop("mask", None)
    return file


def _add(found: _Found, file: LabelMeFile, known: set[Path], beside: Path | None, place: Path, root: Path) -> None:
    shapes = file.shapes or []
    found.labels.update(label for shape in shapes if (label := label_of(shape)))
    found.kinds.update(kind_of(shape) for shape in shapes)
    try:
        image, renamed = _image_of(file, known, beside, root)
    except DefectError as error:
        found.defects.append(error.defect)
        return
    if image in found.records:
        detail = f"is of the image {image}, and so is {found.records[image].mask}; take one of them out"
        found.defects.append(Defect(Kind.REPEATED_ID, file.path, detail))
        return
    found.renamed += renamed
    id = image.relative_to(place if image.is_relative_to(place) else root).with_suffix("").as_posix()
    found.records[image] = Record(id, image, file.path)


def _image_of(file: LabelMeFile, known: set[Path], beside: Path | None, root: Path) -> tuple[Path, bool]:
    """The image that a file names, or the one of its own name beside it where it names none or one that is not there.

    Returns:
        The image, and whether it is another one than the file says.

    Raises:
        DataError: there is none, or the name leads out of the dataset, or the two contradict each other.
    """
    if file.image_path is None and beside is not None:
        return beside, False
    if beside is not None and PureWindowsPath(str(file.image_path)).stem == beside.stem:
        with suppress(DefectError):  # moved here together: the path leads elsewhere, and is not followed
            image = named_file(file.image_path, folder=file.path.parent, root=root, where=file.path)
            return (image, False) if image in known or is_file(image) else (beside, True)
        return beside, True
    image = named_file(file.image_path, folder=file.path.parent, root=root, where=file.path)
    if image not in known and not is_file(image):
        if beside is not None:
            return beside, True
        raise DefectError(Kind.MISSING_IMAGE, file.path, f"is of the image {image} (imagePath), which is not there")
    if beside is not None and image.stem != file.path.stem:
        detail = f"is of the image {image} by its imagePath, and of {beside} by its own name; correct one of them"
        raise DefectError(Kind.BAD_ANNOTATION, file.path, detail)
    return image, False


def _notes(found: Sequence[_Found], images: Sequence[Path]) -> Iterator[str]:
    yield f"{DRAWN}; of shapes that overlap, the later lies on top, as LabelMe draws them; labels are in order of name"
    left_out = {kind: sum(some.kinds[kind] for some in found) for kind in WITHOUT_AREA}
    if any(left_out.values()):
        counts = ", ".join(f"{count} {kind}" for kind, count in left_out.items() if count)
        yield f"shapes without an area are not drawn ({counts}); make polygons of those that are to count"
    renamed = sum(some.renamed for some in found)
    if renamed:
        yield f"{renamed} files name an image (imagePath) that is not there: the image of their own name was taken"
    listed = {image.with_suffix("") for some in found for image in some.records}
    listed |= {defect.file.with_suffix("") for some in found for defect in some.defects}
    unlabelled = [image for image in images if image.with_suffix("") not in listed]
    if unlabelled:
        yield f"{len(unlabelled)} images, such as {unlabelled[0]}, have no LabelMe file and were left out"
    others = [path for some in found for path in some.others]
    if others:
        yield f"{len(others)} JSON files, such as {others[0]}, are not LabelMe's and were left out"
