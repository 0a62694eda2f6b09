"""Pascal VOC's layout, also written by CVAT ("Segmentation mask 1.1") and by LabelMe's labelme2voc.

    JPEGImages/2007_000032.jpg
    SegmentationClass/2007_000032.png       index, palette or RGB; or .npy
    ImageSets/Segmentation/train.txt        a name in each line; also val, test, trainval, and CVAT's default
    labelmap.txt or class_names.txt         if the classes are not Pascal VOC's

`WRITER` writes it as CVAT's "Segmentation mask 1.1" has it: colour masks, labelmap.txt and lists; `CVAT_WRITER` also
the zip file of these that CVAT imports.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.base.config import CLASS, LabelConfig
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.safe_paths import short
from pyramidseg.formats.class_lists import listed_name, voc_color, with_class_list, with_default_labels
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SourceLabel,
    SplitNames,
)
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.paired import IMAGE_FOLDERS, checked_mask_name, paired_dataset
from pyramidseg.formats.paired_writer import IGNORE_COLOR, color_mask, distinct_colors, png
from pyramidseg.formats.pairing import MatchedFiles, Side, pair, pair_by_name
from pyramidseg.formats.paths import child_file, child_folder
from pyramidseg.formats.separate_masks import read_named
from pyramidseg.formats.split_files import WHOLE, ImageSets, listed_pairs, read_lists, resolve_name
from pyramidseg.images.image_files import list_images, list_masks

_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

VOC = (
    *(SourceLabel(name, index, voc_color(index)) for index, name in enumerate(_NAMES)),
    SourceLabel("void", IGNORE, voc_color(IGNORE), ignored=True),
)
"""The 20 classes of Pascal VOC 2007 to 2012, background, and the void border around objects."""


@dataclass(frozen=True)
class VocFiles:
    """The images, the masks, and the lists of each split in `place`, if it is there."""

    folder: Path
    images: Side
    masks: Side
    place: Path | None
    sets: ImageSets
    splits: SplitNames


def detect(folder: Path, splits: SplitNames) -> VocFiles | None:
    """Find `JPEGImages` and `SegmentationClass`, and the lists in `ImageSets/Segmentation`.

    Raises:
        PartialMatch: one of the two folders is missing.
    """
    masks = child_folder(folder, ["segmentationclass", "segmentationclasspng", "segmentationclassnpy"])
    images = child_folder(folder, ["jpegimages", *IMAGE_FOLDERS])
    if masks is None:
        if images is not None and child_folder(folder, ["imagesets"]):
            raise PartialMatch(f"{images} and ImageSets are there but no SegmentationClass: boxes are not masks")
        return None
    if images is None:
        raise PartialMatch(
            f"{masks} is there but no JPEGImages: CVAT exports images only if 'Save images' is chosen; put them into "
            "JPEGImages"
        )
    image_side, mask_side = Side.of(images, list_images(images)), Side.of(masks, list_masks(masks))
    sets_folder = child_folder(folder, ["imagesets"])
    place = sets_folder and child_folder(sets_folder, ["segmentation"])
    known = {*image_side.keys, *mask_side.keys}
    names = {**splits, "train": (*splits["train"], *WHOLE)} if splits == SPLIT_NAMES else splits
    sets = read_lists([place], names, partial(resolve_name, known=known)) if place else ImageSets({})
    if not sets.lists and splits != SPLIT_NAMES:  # a YAML file names lists that do not exist
        return None
    return VocFiles(folder, image_side, mask_side, place, sets, splits)


def read(found: VocFiles, config: LabelConfig) -> ParsedDataset:
    """Pair the images of each list with their masks; without lists, all images that have a mask.

    Raises:
        ConfigError: as `checked_mask_name`.
    """
    images, masks, sets = found.images, found.masks, found.sets
    mask_name = checked_mask_name(config, found.folder, has_lists=bool(sets.lists))
    layout = f"Pascal VOC ({images.folder.name}, {masks.folder.name})"
    if mask_name and CLASS in mask_name:
        return read_named(layout, {"train": (images.folder, masks.folder)}, mask_name)
    if sets.lists and found.place and (named := listed_pairs(found.folder, [found.place], found.splits)):
        pairs, sets = named, ImageSets({})
    elif sets.lists:
        pairs = _by_lists(images, masks, sets, from_cvat=child_file(found.folder, LABELMAP) is not None)
    else:
        pairs = {"train": _all_with_masks(images, masks, mask_name)}
    parsed = paired_dataset(layout, pairs, notes=sets.notes)
    parsed = replace(parsed, defects=(*sets.defects, *parsed.defects))
    parsed = with_class_list(parsed, found.folder)
    return with_default_labels(parsed, VOC, "there is no class list: Pascal VOC's classes are used")


FORMAT = DatasetFormat(
    "voc",
    "JPEGImages, SegmentationClass and ImageSets; CVAT's Segmentation Mask export",
    detect=detect,
    read=read,
    settings=("mask_name",),
)


def _by_lists(images: Side, masks: Side, sets: ImageSets, *, from_cvat: bool) -> dict[str, MatchedFiles]:
    """The pairs of each list.

    Args:
        from_cvat: whether CVAT wrote the masks; it writes none for images without labels.
    """
    known_images, known_masks = set(images.keys), set(masks.keys)
    unlisted = known_masks.difference(*(listed.names for listed in sets.lists.values()))
    pairs: dict[str, MatchedFiles] = {}
    for split, (file, names, _) in sets.lists.items():
        bare = [name for name in names if name not in known_masks]
        if split == "test" and len(bare) == len(names):
            pairs[split] = MatchedFiles((), notes=(f"the test split ({file}) has no masks and was left out",))
            continue
        notes: tuple[str, ...] = ()
        if from_cvat and bare:
            notes = (
                f"{len(bare)} of the {len(names)} images in {file.name} have no mask and were left out: CVAT writes "
                "none for images without labels",
            )
        wanted = set(names).difference(bare if from_cvat else ())
        found = pair(_only(images, wanted), _only(masks, wanted))
        absent = (
            Defect(
                DefectKind.ABSENT,
                file,
                f"names {short(name)}, which is not an image in {images.folder}; remove it from the list",
            )
            for name in names
            if name in wanted and name not in known_images | known_masks
        )
        pairs[split] = MatchedFiles(found.records, (*found.defects, *absent), (*notes, *found.notes))
    if unlisted:
        note = f"{len(unlisted)} masks in {masks.folder} are in none of the lists and were left out"
        first = next(iter(pairs))
        pairs[first] = replace(pairs[first], notes=(*pairs[first].notes, note))
    return pairs


def _all_with_masks(images: Side, masks: Side, mask_name: str | None) -> MatchedFiles:
    """Every mask and its image. Images without a mask are normal: VOC keeps the images of all its tasks together."""
    kept = _only(images, masks.keys)
    if mask_name or (masks.files and not kept.files):
        return pair_by_name(images, masks, mask_name)
    found = pair(kept, masks)
    count = f"{len(kept.files)} of {len(images.files)}"
    note = f"there are no lists in ImageSets/Segmentation: every image with a mask is used ({count})"
    return replace(found, notes=(note, *found.notes))


def _only(side: Side, keys: Iterable[str]) -> Side:
    wanted = set(keys)
    kept = [(file, key) for file, key in zip(side.files, side.keys, strict=True) if key in wanted]
    return Side(side.folder, tuple(file for file, _ in kept), tuple(key for _, key in kept))


# Writing.


LABELMAP = "labelmap.txt"
IGNORED_NAME = "void"


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    return WrittenLabels({f"SegmentationClass/{image.name}.png": png(color_mask(image.labels, classes))})


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    yield LABELMAP, _labelmap(classes)
    for split, some in parts.items():
        yield f"ImageSets/Segmentation/{split}.txt", (f"{name}\n".encode() for name, _ in some)


def _labelmap(classes: Classes) -> Iterator[bytes]:
    yield b"# label:color_rgb:parts:actions\n"
    colors = [*zip(classes.names, distinct_colors(classes), strict=True)]
    if IGNORED_NAME not in classes.names:
        colors.append((IGNORED_NAME, IGNORE_COLOR))
    for name, (red, green, blue) in colors:
        yield f"{name}:{red},{green},{blue}::\n".encode()


def _read_as(name: str) -> str:
    """A line of labelmap.txt ends its name at a colon, and is a comment if it begins with #."""
    return "" if name.startswith("#") else listed_name(name.partition(":")[0])


WRITER = LabelWriter("JPEGImages/{name}", _encode, _assemble, read_as=_read_as)


def _archived(parts: Mapping[str, Parts]) -> Iterator[str]:
    yield LABELMAP
    for split, some in parts.items():
        yield f"ImageSets/Segmentation/{split}.txt"
        yield from (f"SegmentationClass/{name}.png" for name, _ in some)


CVAT_WRITER = replace(WRITER, archived=_archived)
