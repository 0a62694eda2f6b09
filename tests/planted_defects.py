"""Defects to plant: a function spoils one good pair and returns what has to be found."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from planted_pairs import (
    CLASSES,
    HEIGHT,
    WIDTH,
    Expected,
    Pair,
    scene,
    write_colors,
    write_image,
    write_index,
    write_json,
    write_pair,
)
from pyramidseg.base.defects import DefectKind


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
VAL_ONLY = (near_copy,)


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
