"""Splits whose folders of images and masks a YAML file names."""

from dataclasses import replace

from pyramidseg.base.config import CLASS
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.formats.dataset_format import ParsedDataset
from pyramidseg.formats.dataset_statements import Statements
from pyramidseg.formats.dataset_yaml import SplitEntry
from pyramidseg.formats.geojson.geojson_folders import is_vectors, pair_vectors, with_vectors
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.formats.pairing import MatchedFiles, pair_folders
from pyramidseg.formats.separate_masks import read_named
from pyramidseg.formats.split_files import divided_by_lists


def with_named_folders(parsed: ParsedDataset, stated: Statements) -> ParsedDataset:
    """Add the splits that name their folders; report the splits of the format that were named and not found.

    Raises:
        AmbiguousReadingError: see `pair_folders`.
    """
    splits, root, mask_name = stated.splits, stated.root, stated.config.mask_name or ""
    folders = {split: (root / it.images, root / it.masks) for split, it in splits.items() if it.images and it.masks}
    if CLASS in mask_name and folders and all(place.is_dir() for pair in folders.values() for place in pair):
        return read_named(parsed.layout, folders, mask_name)
    for split, entry in splits.items():
        if entry.folder is None:
            parsed = _with_split(parsed, split, entry, stated)
        elif split not in parsed.splits:
            detail = f"{split}: no images with masks in a folder {entry.folder!r} of {root}; correct the name"
            defect = Defect(DefectKind.ABSENT, stated.file or root, detail)
            parsed = replace(parsed, defects=(*parsed.defects, defect))
    is_undivided = [*splits] == ["train"] and splits["train"].folder is None and bool(parsed.splits.get("train"))
    return divided_by_lists(parsed, root) if is_undivided else parsed


def _with_split(parsed: ParsedDataset, split: str, entry: SplitEntry, stated: Statements) -> ParsedDataset:
    file, images, masks = (
        stated.file or stated.root,
        stated.root / (entry.images or ""),
        stated.root / (entry.masks or ""),
    )
    has_vectors = is_vectors(masks)
    missing = [
        Defect(DefectKind.ABSENT, file, f"{split}.{key}: folder {folder} does not exist; correct the name")
        for key, folder in (("images", images), ("masks", masks))
        if not folder.is_dir() and not (has_vectors and folder is masks)
    ]
    if not missing and any(parsed.splits.values()) and has_vectors != isinstance(parsed.values, GeoJsonMasks):
        raise DataError(f"{file}: {split}.masks: GeoJSON in some splits and images in others; use one kind")
    if has_vectors and not missing:
        return with_vectors(parsed, split, pair_vectors(images, masks))
    matched = MatchedFiles((), tuple(missing)) if missing else pair_folders(images, masks, stated.config.mask_name)
    return replace(
        parsed,
        splits={**parsed.splits, split: matched.records},
        notes=tuple(dict.fromkeys((*parsed.notes, *matched.notes))),
        defects=(*parsed.defects, *matched.defects),
    )
