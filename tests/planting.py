"""Datasets with planted defects: what is planted is known, so that an inspection can be held against it.

A format is a function that takes the folder of a dataset and returns its `Layout`; a defect is a function that spoils
one pair and returns what has to be found. Everything follows from a seed.
"""

import json
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.defects import DefectKind

HEIGHT, WIDTH = 30, 40
CLASSES = ("ground", "thing", "other")
COLORS = ((90, 120, 60), (200, 30, 40), (20, 60, 220))

Expected = tuple[DefectKind, Path]
Labels = NDArray[np.uint8]


@dataclass
class Layout:
    """Where a format keeps what, and how it writes masks.

    Attributes:
        source: what is given to the inspection.
        mask: the file that a defect of a mask is told of.
        write_mask: writes or notes down the labels of an image.
        defects: what can be planted.
        finish: writes what lists all files, with the stems of all images by split.
        labels: of each image, by split and name.
        spoils: what is found of the dataset itself where something is planted.
    """

    source: Path
    image: Callable[[str, str], Path]
    mask: Callable[[str, str], Path]
    write_mask: Callable[[Path, Labels], None]
    defects: "tuple[Callable[[Pair], Expected], ...]"
    finish: "Callable[[Layout], None]" = lambda layout: None
    labels: dict[tuple[str, str], Labels] = field(default_factory=dict)
    spoils: tuple[DefectKind, ...] = ()


def paired(root: Path) -> Layout:
    """`{split}/images`, `{split}/masks`, index masks, classes in dataset.yaml."""
    root.mkdir(parents=True)
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(CLASSES)}]")
    return Layout(
        root,
        image=lambda split, name: root / split / "images" / f"{name}.png",
        mask=lambda split, name: root / split / "masks" / f"{name}.png",
        write_mask=write_index,
        defects=(*IN_IMAGES, *IN_MASKS, *IN_NUMBERS, *IN_PAIRS),
    )


def unlisted(root: Path) -> Layout:
    """`images/{split}`, `masks/{split}`, index masks whose values nobody has named: strays leave two readings."""
    return Layout(
        root,
        image=lambda split, name: root / "images" / split / f"{name}.png",
        mask=lambda split, name: root / "masks" / split / f"{name}.png",
        write_mask=write_index,
        defects=(*IN_IMAGES, *IN_MASKS, stray_value, colors_among_numbers, *IN_PAIRS),
        spoils=(DefectKind.UNCLEAR_CLASSES,),
    )


def segnet(root: Path) -> Layout:
    """`{split}`, `{split}annot`."""
    root.mkdir(parents=True)
    (root / "dataset.yaml").write_text(f"classes: [{', '.join(CLASSES)}]")
    return Layout(
        root,
        image=lambda split, name: root / split / f"{name}.png",
        mask=lambda split, name: root / f"{split}annot" / f"{name}.png",
        write_mask=write_index,
        defects=(*IN_IMAGES, *IN_MASKS, *IN_NUMBERS, *IN_PAIRS),
    )


def colored(root: Path) -> Layout:
    """A YAML file that names folders and colours; masks carry a suffix."""
    root.mkdir(parents=True)
    classes = ", ".join(f"{{name: {name}, color: {list(color)}}}" for name, color in zip(CLASSES, COLORS, strict=True))
    file = root / "mine.yaml"
    file.write_text(
        "train: {images: a/pictures, masks: a/truth}\nval: {images: b/pictures, masks: b/truth}\n"
        f'classes: [{classes}]\nignore: "#000000"\n'
    )
    folder = {"train": "a", "val": "b"}
    return Layout(
        file,
        image=lambda split, name: root / folder[split] / "pictures" / f"{name}.png",
        mask=lambda split, name: root / folder[split] / "truth" / f"{name}_mask.png",
        write_mask=write_colors,
        defects=(*IN_IMAGES, *IN_MASKS, *IN_COLORS, *IN_PAIRS),
    )


def voc(root: Path) -> Layout:
    """JPEGImages, SegmentationClass in colours, and lists of names."""
    root.mkdir(parents=True)
    (root / "class_names.txt").write_text("\n".join(CLASSES))

    def finish(layout: Layout) -> None:
        for split in ("train", "val"):
            file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{name}\n" for kind, name in layout.labels if kind == split))

    return Layout(
        root,
        image=lambda split, name: root / "JPEGImages" / f"{name}.png",
        mask=lambda split, name: root / "SegmentationClass" / f"{name}.png",
        write_mask=write_index,
        defects=(*IN_IMAGES, *IN_MASKS, *IN_NUMBERS, no_image, no_mask, other_case),
        finish=finish,
    )


def labelme(root: Path) -> Layout:
    """A JSON file of polygons beside each image."""

    def write(path: Path, labels: Labels) -> None:
        shapes = [{"label": name, "points": corners} for name, corners in outlines(labels).items()]
        height, width = labels.shape
        write_json(path, imagePath=f"{path.stem}.png", imageHeight=height, imageWidth=width, shapes=shapes)

    return Layout(
        root,
        image=lambda split, name: root / split / f"{name}.png",
        mask=lambda split, name: root / split / f"{name}.json",
        write_mask=write,
        defects=(*IN_IMAGES, *IN_SHAPES, no_image, other_size, other_case),
    )


def coco(root: Path) -> Layout:
    """A JSON file for each split, beside its images."""

    def finish(layout: Layout) -> None:
        for split in ("train", "val"):
            images, annotations = [], []
            for number, ((kind, name), labels) in enumerate(layout.labels.items()):
                if kind == split:
                    height, width = labels.shape
                    images.append({"id": number, "file_name": f"{name}.png", "height": height, "width": width})
                    annotations += [
                        {
                            "id": len(annotations) + place,
                            "image_id": number,
                            "category_id": CLASSES.index(label),
                            "iscrowd": 0,
                            "segmentation": [np.ravel(corners).tolist()],
                        }
                        for place, (label, corners) in enumerate(outlines(labels).items())
                    ]
            categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES) if index]
            file = layout.mask(split, "")
            write_json(file, images=images, annotations=annotations, categories=categories)

    return Layout(
        root,
        image=lambda split, name: root / split / f"{name}.png",
        mask=lambda split, name: root / split / "_annotations.coco.json",
        write_mask=lambda path, labels: None,
        defects=(*IN_IMAGES, other_size, other_case),
        finish=finish,
    )


def outlines(labels: Labels) -> dict[str, list[list[int]]]:
    """The corners of a box around each class but the ground."""
    found = {}
    for index, name in enumerate(CLASSES):
        rows, columns = np.nonzero(labels == index)
        if index and len(rows):
            top, left, bottom, right = (
                int(end) for end in (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
            )
            found[name] = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return found


def write_json(path: Path, **content: Any) -> None:
    """A JSON file; NaN as Python writes it."""
    path.write_text(json.dumps(content))


def scene(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> tuple[NDArray[np.uint8], Labels]:
    """An image that looks like no other, and labels that show all classes."""
    coarse = rng.integers(20, 236, (6, 8, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    labels = np.zeros((height, width), np.uint8)
    top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
    labels[top : top + height // 3, left : left + width // 3] = 1
    labels[-2:] = 2
    labels[0, 0] = 255
    return image, labels


def write_pair(layout: Layout, split: str, name: str, image: NDArray[Any], labels: Labels) -> tuple[Path, Path]:
    """An image and its mask."""
    paths = layout.image(split, name), layout.mask(split, name)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_image(paths[0], image)
    write_labels(layout, split, name, labels)
    return paths


def write_labels(layout: Layout, split: str, name: str, labels: Labels) -> None:
    """The mask of an image."""
    layout.labels[split, name] = labels
    layout.write_mask(layout.mask(split, name), labels)


def write_image(path: Path, image: NDArray[Any], **options: Any) -> None:
    """By the name's ending, without loss."""
    Image.fromarray(image).save(path, **options)


def write_index(path: Path, labels: Labels) -> None:
    """Class ids as grey levels."""
    Image.fromarray(labels).save(path)


def write_colors(path: Path, labels: Labels) -> None:
    """Classes as colours, what is ignored black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(COLORS)] = COLORS
    Image.fromarray(table[labels]).save(path)


@dataclass
class Pair:
    """A good pair that is about to be spoilt.

    Attributes:
        model: another image of the training split, to be copied.
    """

    layout: Layout
    split: str
    name: str
    image: NDArray[np.uint8]
    labels: Labels
    model: str
    rng: np.random.Generator

    @property
    def image_file(self) -> Path:
        return self.layout.image(self.split, self.name)

    @property
    def mask_file(self) -> Path:
        return self.layout.mask(self.split, self.name)

    def write(self, image: NDArray[Any] | None = None, labels: Labels | None = None) -> None:
        write_pair(
            self.layout,
            self.split,
            self.name,
            self.image if image is None else image,
            self.labels if labels is None else labels,
        )

    def relabel(self, labels: Labels) -> None:
        write_labels(self.layout, self.split, self.name, labels)


def truncated_image(pair: Pair) -> Expected:
    return DefectKind.DAMAGED, _cut(pair.image_file, pair.rng)


def truncated_mask(pair: Pair) -> Expected:
    return DefectKind.DAMAGED, _cut(pair.mask_file, pair.rng)


def damaged_image(pair: Pair) -> Expected:
    content = bytearray(pair.image_file.read_bytes())
    middle = content.index(b"IDAT") + 4 + int(pair.rng.integers(20, 60))
    content[middle] ^= 0xFF
    pair.image_file.write_bytes(content)
    return DefectKind.DAMAGED, pair.image_file


def empty_image(pair: Pair) -> Expected:
    pair.image_file.write_bytes(b"")
    return DefectKind.EMPTY, pair.image_file


def empty_mask(pair: Pair) -> Expected:
    pair.mask_file.write_bytes(b"")
    return DefectKind.EMPTY, pair.mask_file


def web_page(pair: Pair) -> Expected:
    pair.image_file.write_text("<!doctype html><title>404 Not Found</title>")
    return DefectKind.FOREIGN, pair.image_file


def bomb(pair: Pair) -> Expected:
    pair.image_file.write_bytes(png_of(50_000, 50_000))
    return DefectKind.TOO_LARGE, pair.image_file


def frames(pair: Pair) -> Expected:
    other = Image.fromarray(pair.image[::-1].copy())
    Image.fromarray(pair.image).save(pair.image_file, save_all=True, append_images=[other])
    return DefectKind.SEVERAL_PAGES, pair.image_file


def dangling_link(pair: Pair) -> Expected:
    pair.image_file.unlink()
    pair.image_file.symlink_to(pair.image_file.with_name("moved away.png"))
    return DefectKind.ABSENT, pair.image_file


def odd_image(pair: Pair) -> Expected:
    Image.fromarray(pair.image.mean(axis=2).astype(np.int32)).save(pair.image_file, "TIFF")
    return DefectKind.UNREADABLE_IMAGE, pair.image_file


def blank_image(pair: Pair) -> Expected:
    write_image(pair.image_file, np.full_like(pair.image, pair.rng.integers(256)))
    return DefectKind.BLANK_IMAGE, pair.image_file


def grey_image(pair: Pair) -> Expected:
    write_image(pair.image_file, cv2.cvtColor(pair.image, cv2.COLOR_RGB2GRAY))
    return DefectKind.MIXED_CHANNELS, pair.image_file


def deep_image(pair: Pair) -> Expected:
    assert cv2.imwrite(str(pair.image_file), pair.image.astype(np.uint16) * 257)
    return DefectKind.MIXED_DEPTHS, pair.image_file


def tiny_pair(pair: Pair) -> Expected:
    pair.write(*scene(pair.rng, 5, 7))
    return DefectKind.EXTREME_SIZE, pair.image_file


def huge_pair(pair: Pair) -> Expected:
    pair.write(*scene(pair.rng, 5 * HEIGHT, 5 * WIDTH))
    return DefectKind.EXTREME_SIZE, pair.image_file


def elongated_pair(pair: Pair) -> Expected:
    pair.write(*scene(pair.rng, HEIGHT // 2, 3 * WIDTH))
    return DefectKind.EXTREME_ASPECT, pair.image_file


def same_file(pair: Pair) -> Expected:
    _copy(pair, "train")
    return DefectKind.DUPLICATE if pair.split == "train" else DefectKind.LEAK, pair.image_file


def same_pixels(pair: Pair) -> Expected:
    pixels = np.asarray(Image.open(_copy(pair, "train")))
    write_image(pair.image_file, pixels, compress_level=1)
    return DefectKind.DUPLICATE if pair.split == "train" else DefectKind.LEAK, pair.image_file


def contradiction(pair: Pair) -> Expected:
    _copy(pair, "train")
    pair.relabel(pair.labels)
    return DefectKind.CONTRADICTION if pair.split == "train" else DefectKind.LEAK, pair.image_file


def near_copy(pair: Pair) -> Expected:
    pixels = np.asarray(Image.open(_copy(pair, "train"))).astype(np.float64)
    noisy = pixels * 0.85 + pair.rng.normal(0, 3, pixels.shape)
    write_image(pair.image_file, noisy.clip(0, 255).astype(np.uint8))
    return DefectKind.LEAK, pair.image_file


def exif_turned(pair: Pair) -> Expected:
    exif = Image.Exif()
    exif[0x0112] = int(pair.rng.choice([5, 6, 7, 8]))
    write_image(pair.image_file, pair.image, exif=exif)
    return DefectKind.EXIF_TURNED, pair.mask_file


def unknown_value(pair: Pair) -> Expected:
    spoilt = pair.labels.copy()
    spoilt[3, 3] = pair.rng.integers(len(CLASSES), 255)
    write_index(pair.mask_file, spoilt)
    return DefectKind.UNKNOWN_VALUE, pair.mask_file


def stray_value(pair: Pair) -> Expected:
    spoilt = pair.labels.copy()
    spoilt[3, 3] = pair.rng.integers(100, 255)
    write_index(pair.mask_file, spoilt)
    return DefectKind.UNKNOWN_VALUE, pair.mask_file


def unknown_color(pair: Pair) -> Expected:
    pixels = np.asarray(Image.open(pair.mask_file)).copy()
    pixels[3, 3] = pair.rng.integers(1, 20, 3)
    Image.fromarray(pixels).save(pair.mask_file)
    return DefectKind.UNKNOWN_VALUE, pair.mask_file


def all_ignored(pair: Pair) -> Expected:
    pair.relabel(np.full_like(pair.labels, 255))
    return DefectKind.ALL_IGNORED, pair.mask_file


def other_size(pair: Pair) -> Expected:
    pair.relabel(pair.labels[: -int(pair.rng.integers(1, 9))])
    return DefectKind.SIZE_DIFFERS, pair.mask_file


def mask_turned_by_itself(pair: Pair) -> Expected:
    exif = Image.Exif()
    exif[0x0112] = int(pair.rng.choice([5, 6, 7, 8]))
    Image.open(pair.mask_file).save(pair.mask_file, exif=exif)
    return DefectKind.EXIF_TURNED, pair.mask_file


def upside_down(pair: Pair) -> Expected:
    """Found by what `exif_turned` shows of the other masks."""
    exif = Image.Exif()
    exif[0x0112] = int(pair.rng.choice([2, 3, 4]))
    write_image(pair.image_file, pair.image, exif=exif)
    return DefectKind.EXIF_TURNED, pair.mask_file


def jpeg_mask(pair: Pair) -> Expected:
    Image.open(pair.mask_file).convert("RGB").save(pair.mask_file, "JPEG")
    return DefectKind.LOSSY_MASK, pair.mask_file


def webp_mask(pair: Pair) -> Expected:
    Image.open(pair.mask_file).convert("RGB").save(pair.mask_file, "WEBP", quality=80)
    return DefectKind.LOSSY_MASK, pair.mask_file


def transparent_mask(pair: Pair) -> Expected:
    made = Image.open(pair.mask_file).convert("RGBA")
    made.putpixel((4, 4), (0, 0, 0, 10))
    made.save(pair.mask_file)
    return DefectKind.TRANSPARENT_MASK, pair.mask_file


def colors_among_numbers(pair: Pair) -> Expected:
    write_colors(pair.mask_file, pair.labels)
    return DefectKind.UNEXPECTED_COLORS, pair.mask_file


def float_mask(pair: Pair) -> Expected:
    Image.fromarray(pair.labels.astype(np.float32) + 0.25).save(pair.mask_file, "TIFF")
    return DefectKind.UNREADABLE_MASK, pair.mask_file


def image_as_mask(pair: Pair) -> Expected:
    shutil.copy(pair.image_file, pair.mask_file)
    return DefectKind.MASK_IS_IMAGE, pair.mask_file


def grey_image_as_mask(pair: Pair) -> Expected:
    Image.open(pair.image_file).convert("L").save(pair.mask_file)
    return DefectKind.MASK_IS_IMAGE, pair.mask_file


def broken_json(pair: Pair) -> Expected:
    return DefectKind.BAD_ANNOTATION, _cut(pair.mask_file, pair.rng)


def nan_in_polygon(pair: Pair) -> Expected:
    return _with_points(pair, [[1, 1], [float("nan"), 9], [9, 1]])


def two_corners(pair: Pair) -> Expected:
    return _with_points(pair, [[1, 1], [9, 9]])


def outside(pair: Pair) -> Expected:
    content = json.loads(pair.mask_file.read_text())
    write_json(pair.mask_file, **{**content, "imagePath": "../../../secret.png"})
    return DefectKind.OUTSIDE, pair.mask_file


def no_mask(pair: Pair) -> Expected:
    pair.mask_file.unlink()
    return DefectKind.MISSING_MASK, pair.image_file


def no_image(pair: Pair) -> Expected:
    pair.image_file.unlink()
    return DefectKind.MISSING_IMAGE, pair.mask_file


def second_of_a_stem(pair: Pair) -> Expected:
    other = pair.image_file.with_suffix(".tif")
    write_image(other, pair.image)
    return DefectKind.SAME_STEM, other


def other_case(pair: Pair) -> Expected:
    image, labels = scene(pair.rng)
    # Upper case comes first.
    write_pair(pair.layout, pair.split, pair.name.upper(), image, labels)
    return DefectKind.CASE_COLLISION, pair.image_file


IN_IMAGES = (
    truncated_image, damaged_image, empty_image, web_page, bomb, frames, dangling_link, odd_image, blank_image,
    grey_image, deep_image, tiny_pair, huge_pair, elongated_pair, same_file, same_pixels, contradiction, near_copy,
    exif_turned,
)  # fmt: skip
IN_MASKS = (
    truncated_mask, empty_mask, all_ignored, other_size, jpeg_mask, webp_mask, transparent_mask, float_mask,
    image_as_mask, mask_turned_by_itself, upside_down,
)  # fmt: skip
IN_NUMBERS = (unknown_value, colors_among_numbers, grey_image_as_mask)
IN_COLORS = (unknown_color, grey_image_as_mask)
IN_SHAPES = (broken_json, nan_in_polygon, two_corners, outside)
IN_PAIRS = (no_mask, no_image, second_of_a_stem, other_case)

FORMATS: Mapping[str, Callable[[Path], Layout]] = {
    "paired": paired, "unlisted": unlisted, "segnet": segnet, "colored": colored, "voc": voc, "labelme": labelme,
    "coco": coco,
}  # fmt: skip

VAL_ONLY = (near_copy,)


def write_dataset(layout: Layout, *, seed: int, good: int, times: int = 0) -> list[Expected]:
    """Good pairs in train and val, and every defect of the format so many times; returns what was planted."""
    rng = np.random.default_rng(seed)
    for index in range(good):
        split = "val" if index % 4 == 3 else "train"
        write_pair(layout, split, f"good_{index:03d}", *scene(rng))
    models = [f"good_{index:03d}" for index in range(good) if index % 4 != 3]
    planted: list[Expected] = []
    for defect in layout.defects:
        for turn in range(times):
            split = "val" if defect in VAL_ONLY or turn % 3 == 2 else "train"
            pair = Pair(layout, split, f"x_{defect.__name__}_{turn}", *scene(rng), models.pop(), rng)
            pair.write()
            planted.append(defect(pair))
    layout.finish(layout)
    return planted + [(kind, layout.source) for kind in layout.spoils if times]


def png_of(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file with its checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _with_points(pair: Pair, points: list[list[float]]) -> Expected:
    content = json.loads(pair.mask_file.read_text())
    content["shapes"][0]["points"] = points
    write_json(pair.mask_file, **content)
    return DefectKind.BAD_ANNOTATION, pair.mask_file


def _cut(file: Path, rng: np.random.Generator) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * rng.uniform(0.4, 0.8))])
    return file


def _copy(pair: Pair, split: str) -> Path:
    """Put another image and its mask in the place of this pair."""
    shutil.copy(pair.layout.image(split, pair.model), pair.image_file)
    pair.relabel(pair.layout.labels[split, pair.model])
    return pair.image_file
