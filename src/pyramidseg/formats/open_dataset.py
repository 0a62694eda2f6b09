"""Opens a dataset: a folder whose format is detected, or a YAML file that describes one.

YAML file or folder -> detect the format -> read its records -> decide on the classes -> make a val split -> `Dataset`.
A format is a module with a `DatasetFormat`, and an entry in `FORMATS`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import CLASS, DataConfig, LabelConfig
from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError, nearest
from pyramidseg.data.records import Dataset, DatasetSource
from pyramidseg.formats import (
    ade20k,
    camvid,
    cityscapes,
    cvat_images,
    huggingface,
    label_studio,
    labelme,
    paired,
    roboflow,
    run_lengths_csv,
    segnet,
    separate_masks,
    supervisely,
    via,
    voc,
    yolo,
)
from pyramidseg.formats.class_inference import decide_labels, placeholder_labels
from pyramidseg.formats.class_lists import has_damaged_list, with_class_list
from pyramidseg.formats.coco import instances, panoptic
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset
from pyramidseg.formats.dataset_statements import Statements, read_statements, refuse_unused, source_statements
from pyramidseg.formats.dataset_yaml import SplitEntry
from pyramidseg.formats.detection import detect_format, refuse_defects
from pyramidseg.formats.geojson import geojson_folders
from pyramidseg.formats.geojson.geojson_classes import apply_label_config
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.formats.joined import join
from pyramidseg.formats.label_interpretation import AmbiguousLabelsError
from pyramidseg.formats.label_mapping import Labels, dataset_description
from pyramidseg.formats.pairing import MatchedFiles, pair_folders
from pyramidseg.formats.scene_cutting import with_windows
from pyramidseg.formats.separate_masks import read_named
from pyramidseg.formats.space_splitting import with_val_blocks
from pyramidseg.formats.split_files import divided_by_lists
from pyramidseg.formats.splitting import with_val_split
from pyramidseg.formats.unlisted_splits import with_unlisted_splits
from pyramidseg.formats.unread_masks import with_unread_masks
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError, AmbiguousFoldersError, AmbiguousReadingError
from pyramidseg.images.scene_windows import window_at

FORMATS: dict[str, DatasetFormat[Any]] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        *(paired, segnet, camvid, voc, roboflow, cityscapes, ade20k, instances, panoptic, yolo, labelme, cvat_images),
        *(label_studio, supervisely, via, separate_masks, run_lengths_csv, huggingface, geojson_folders),
    )
}
"""All dataset formats by name."""

_LISTS_AND_ANNOTATIONS = {DefectKind.ABSENT, DefectKind.BAD_ANNOTATION, DefectKind.EMPTY}
"""Defects of files that define classes, which settings may refer to."""

DEFAULT_VAL_SHARE = 0.2

DEFAULT_DATA = DataConfig()


def open_dataset(
    source: DatasetSource,
    data: DataConfig = DEFAULT_DATA,
    *,
    fallback_classes: Classes | None = None,
    divide: bool = True,
) -> Dataset:
    """List the images and masks of a dataset, decide on its classes, and make a validation split if there is none.

    Args:
        source: a folder, a YAML file (`dataset_yaml`), several of both, or a dataset made in Python.
        data: `format`, `classes` and the settings of `LabelConfig` are used and override those of the YAML file, except
            that the ignored values of both apply. For a dataset made in Python only `bands`, `val_share` and `group`
            apply.
        fallback_classes: the classes of the model that the dataset is opened for; used if the dataset defines none.
        divide: False makes a validation split only if `val_share` or `group` is stated, or for windows of large images,
            which could not be kept apart from their neighbours later.

    Raises:
        DataError: nothing that can be read is there, files have defects, or the dataset has several readings.
        ConfigError: the YAML file or the settings contradict themselves, or have no effect.
    """
    check_data_config(data)
    if isinstance(source, Dataset):
        return _with_settings(source, data)
    stated = read_statements(source, data)
    if stated.sources:
        return join(stated, [_open(each, divide=divide) for each in source_statements(stated, data)])
    return _open(stated, fallback_classes, divide=divide)


def check_data_config(data: object) -> None:
    """Refuse settings of another type by a ConfigError."""
    if not isinstance(data, DataConfig):
        raise ConfigError(f"data={data!r}: must be a DataConfig, for example ps.DataConfig(binary=True)")


def _open(stated: Statements, fallback_classes: Classes | None = None, *, divide: bool = True) -> Dataset:
    found = _find_records(stated)
    refuse_defects(found.root, found.parsed.defects)
    found = found.with_geojson_settings(stated, fallback_classes)
    labels = decide_labels(found.parsed, stated, fallback_classes=fallback_classes)
    return _with_val(_dataset(stated, found, labels), labels.config, divide=divide)


def open_with_defects(source: DatasetSource, data: DataConfig) -> tuple[Dataset, list[Defect]]:
    """Open a dataset for inspection: return its defects too, and read ambiguous masks by the likeliest interpretation.

    Raises:
        DataError: it is not recognised as a dataset.
        ConfigError: as `open_dataset`.
    """
    check_data_config(data)
    if isinstance(source, Dataset):
        return _with_settings(source, data), []
    stated = read_statements(source, data)
    if stated.sources:
        sources = source_statements(stated, data)
        opened = [_open_with_defects(each) for each in sources]
        try:
            return join(stated, [dataset for dataset, _ in opened]), [one for _, found in opened for one in found]
        except AmbiguousDatasetError:
            for each in sources:  # the names may be unclear because of defects, or be a likely reading only
                _open(each)
            raise
    return _open_with_defects(stated)


def _open_with_defects(stated: Statements) -> tuple[Dataset, list[Defect]]:
    found = _find_records(stated)
    defects = list(found.parsed.defects)
    is_class_list_damaged = has_damaged_list(found.parsed)
    try:
        found = found.with_geojson_settings(stated, None)
        labels = decide_labels(found.parsed, stated)
        dataset = _dataset(stated, found, labels)
    except AmbiguousLabelsError as error:
        if any(found.parsed.splits.values()) and not is_class_list_damaged:
            defects.append(Defect(DefectKind.UNCLEAR_CLASSES, stated.source, error.detail))
        likeliest = error.interpretations[0]
        read_so = replace(stated, classes=likeliest.classes or stated.classes, config=likeliest.apply(stated.config))
        labels = decide_labels(found.parsed, read_so)
        dataset = _dataset(stated, found, labels)
    except (DefectError, ConfigError) as error:  # no mask can be read, or the settings name classes of a damaged file
        if isinstance(error, ConfigError):
            if not any(defect.kind in _LISTS_AND_ANNOTATIONS for defect in defects):
                raise
            note = f"the settings do not fit what could be read: {error}"
            found = replace(found, parsed=replace(found.parsed, notes=(*found.parsed.notes, note)))
        labels = placeholder_labels(found.parsed, stated)
        description = dataset_description(found.root, found.format, stated, None)
        dataset = replace(_dataset(stated, found, labels), description=description)
    if len(dataset.splits.get("train", ())) < 2 or "val" in found.parsed.splits:
        return dataset, defects  # too few images to divide, or a val split of which nothing can be read
    return _with_val(dataset, labels.config), defects


@dataclass(frozen=True)
class _Found:
    """The records of a dataset, the format that listed them (if one did), and their folder."""

    format: str | None
    root: Path
    parsed: ParsedDataset

    def with_geojson_settings(self, stated: Statements, fallback_classes: Classes | None) -> "_Found":
        taken = FORMATS[self.format].settings if self.format else ("mask_name",)
        parsed = apply_label_config(self.parsed, stated, fallback_classes=fallback_classes, taken=taken)
        return replace(self, parsed=parsed)


def _find_records(stated: Statements) -> _Found:
    """List the records: by the format of the folder, and by the folders that a YAML file names."""
    try:
        return _list_records(stated)
    except AmbiguousReadingError as error:
        raise AmbiguousDatasetError(stated.source, error.detail, error.alternatives) from None


def _list_records(stated: Statements) -> _Found:
    origin = str(stated.file or "data.format")
    names = {split: (entry.folder.lower(),) for split, entry in stated.splits.items() if entry.folder is not None}
    if stated.splits and not names:
        if stated.format not in (None, geojson_folders.FORMAT.name):
            raise ConfigError(
                f"{origin}: format={stated.format}: every split names its own folders, so leave the format out"
            )
        named = ParsedDataset("folders named in the YAML file", {})
        found = _Found(None, stated.root, with_class_list(named, stated.root))
    else:
        if stated.format is not None and stated.format not in FORMATS:
            raise ConfigError(f"{origin}: unknown dataset format {stated.format!r}; {nearest(stated.format, FORMATS)}")
        formats = {stated.format: FORMATS[stated.format]} if stated.format else FORMATS
        detected = detect_format(stated.root, names or SPLIT_NAMES, formats=formats, source=stated.source)
        try:
            parsed = detected.read(stated.config)
        except AmbiguousFoldersError as error:
            if names:
                raise
            raise error.with_proposal(stated.source, stated.root) from None
        if not names:
            parsed = with_unlisted_splits(detected.root, parsed)
        found = _Found(detected.format.name, detected.root, parsed)
    parsed = _with_named_folders(found.parsed, stated)
    parsed = with_unread_masks(found.root, parsed)
    parsed = with_windows(parsed, stated.config, source=stated.source)
    notes = [f"described by {stated.file}"] if stated.file not in (None, stated.named) else []
    notes += [f"the dataset is in {found.root}"] if found.root != stated.root and stated.file is None else []
    return replace(found, parsed=replace(parsed, notes=(*notes, *parsed.notes)))


def _with_named_folders(parsed: ParsedDataset, stated: Statements) -> ParsedDataset:
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
    root, file = stated.root, stated.file or stated.root
    images, masks = root / (entry.images or ""), root / (entry.masks or "")
    has_vectors = geojson_folders.is_vectors(masks)
    missing = [
        Defect(DefectKind.ABSENT, file, f"{split}.{key}: folder {folder} does not exist; correct the name")
        for key, folder in (("images", images), ("masks", masks))
        if not folder.is_dir() and not (has_vectors and folder is masks)
    ]
    if not missing and any(parsed.splits.values()) and has_vectors != isinstance(parsed.values, GeoJsonMasks):
        raise DataError(f"{file}: {split}.masks: GeoJSON in some splits and images in others; use one kind")
    if has_vectors and not missing:
        return geojson_folders.with_vectors(parsed, split, geojson_folders.pair_vectors(images, masks))
    matched = MatchedFiles((), tuple(missing)) if missing else pair_folders(images, masks, stated.config.mask_name)
    return replace(
        parsed,
        splits={**parsed.splits, split: matched.records},
        notes=tuple(dict.fromkeys((*parsed.notes, *matched.notes))),
        defects=(*parsed.defects, *matched.defects),
    )


def _dataset(stated: Statements, found: _Found, labels: Labels) -> Dataset:
    parsed = found.parsed
    return Dataset(
        source=str(stated.named),
        layout=parsed.layout,
        classes=labels.classes,
        masks=labels.masks,
        splits={split: records for split, records in parsed.splits.items() if records},
        notes=(*parsed.notes, *labels.notes),
        bands=labels.config.bands,
        description=dataset_description(found.root, found.format, stated, labels),
    )


def _with_settings(dataset: Dataset, data: DataConfig) -> Dataset:
    """A dataset made in Python, with the settings that apply to it."""
    refuse_unused(data, dataset.source)
    return _with_val(replace(dataset, bands=data.bands or dataset.bands), data)


def _with_val(dataset: Dataset, config: LabelConfig, *, divide: bool = True) -> Dataset:
    """The dataset with a validation split, made from training images if there is none."""
    if dataset.splits.get("val"):
        for name in ("val_share", "group"):
            if (value := getattr(config, name)) is not None:
                raise ConfigError(
                    f"{dataset.source}: {name}={value}: the dataset already has a val split "
                    f"({len(dataset.splits['val'])} images), so none is made; leave it out"
                )
        return dataset
    if not dataset.splits.get("train"):
        return dataset
    is_cut = any(window_at(record.image) for record in dataset.splits["train"])
    if not (divide or is_cut or config.val_share or config.group):
        return dataset
    share = config.val_share or DEFAULT_VAL_SHARE
    dataset = with_val_blocks(dataset, share, config) if is_cut else with_val_split(dataset, share, group=config.group)
    return replace(dataset, description={**dataset.description, "val_share": share} if dataset.description else {})
