"""Image files that browsers treat differently, and their pixels in Python: the stored samples of a web page.

`python tests/pixel_samples.py` writes them again (src/pyramidseg/export/page/pixels.json).
"""

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import pyramidseg
from planted_defects import chunk
from pyramidseg.predict.input_images import load_image

FILE = Path(pyramidseg.__file__).parent / "export" / "page" / "pixels.json"


def profile() -> bytes:
    """An ICC profile (version 2) with red and blue exchanged and a gamma of 1: managed colours differ a lot."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    texts = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(79)
    red, green, blue = (0.1431, 0.0606, 0.7141), (0.3851, 0.7169, 0.0971), (0.4361, 0.2225, 0.0139)
    tags = {
        b"desc": texts + bytes(-len(texts) % 4),
        b"cprt": b"text\0\0\0\0x\0\0\0",
        b"wtpt": xyz(0.9642, 1, 0.8249),
        **{name: xyz(*values) for name, values in ((b"rXYZ", red), (b"gXYZ", green), (b"bXYZ", blue))},
        **{name: b"curv\0\0\0\0" + struct.pack(">I", 0) for name in (b"rTRC", b"gTRC", b"bTRC")},
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(content))
        body += content
    header = b"\0\0\0\0" + b"\x02\x40\0\0" + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += struct.pack(">iii", 63190, 65536, 54061) + bytes(48)
    return struct.pack(">I", 4 + len(header) + len(table) + len(body)) + header + table + body


def exif(orientation: int) -> bytes:
    """EXIF data (TIFF 6.0) with an orientation."""
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HHI", orientation, 0, 0)


def with_chunks(png: bytes, *, orientation: int = 1) -> bytes:
    """A PNG file with a gamma of 1, a profile and an orientation."""
    iccp = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile()))
    return png[:33] + chunk(b"gAMA", struct.pack(">I", 100_000)) + iccp + chunk(b"eXIf", exif(orientation)) + png[33:]


def pattern(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Smooth colours with noise; alpha from 0 to 255."""
    rows, columns = np.mgrid[:height, :width] / (height, width)[0]
    planes = [rows, columns, 1 - rows * columns, rows * columns][:channels]
    noise = np.random.default_rng(0).normal(0, 0.03, (height, width, channels))
    return np.clip(255 * (np.stack(planes, axis=2) + noise), 0, 255).astype(np.uint8)


def saved(values: NDArray[Any], format: str, **options: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(values).save(content, format, **options)
    return content.getvalue()


def deep(values: NDArray[np.uint8]) -> bytes:
    """A PNG of 16 bits whose lower bytes count."""
    noise = np.random.default_rng(1).integers(0, 256, values.shape)
    stored = (values.astype(np.uint16) * 256 + noise).astype(np.uint16)
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[values.shape[2]]
    return cv2.imencode(".png", stored[..., order])[1].tobytes()


def files() -> dict[str, bytes]:
    color, alpha = pattern(10, 14, 3), pattern(10, 14, 4)
    jpeg = {"quality": 92, "subsampling": 2, "icc_profile": profile()}
    found = {
        f"JPEG, orientation {turn}, profile": saved(pattern(22, 30, 3), "JPEG", exif=b"Exif\0\0" + exif(turn), **jpeg)
        for turn in (1, 6)
    }
    found["PNG, orientation 5, alpha, profile"] = with_chunks(saved(alpha, "PNG"), orientation=5)
    found["PNG, orientation 3, 16 bits, alpha, profile"] = with_chunks(deep(alpha), orientation=3)
    found["WebP, lossless, orientation 8, profile"] = saved(
        color, "WEBP", lossless=True, exif=exif(8), icc_profile=profile()
    )
    found["WebP, lossy, alpha"] = saved(alpha, "WEBP", quality=90)
    found["PNG, grey"] = saved(color[..., 0], "PNG")
    return found


def sample(content: bytes, channels: int) -> dict[str, Any]:
    """A file, and how Python reads it: (channels, height, width)."""
    pixels = load_image(content, channels=channels)
    values = pixels.transpose(2, 0, 1).astype(pixels.dtype.newbyteorder("<")).tobytes()
    encoded = {name: base64.b64encode(part).decode() for name, part in (("file", content), ("values", values))}
    height, width = pixels.shape[:2]
    return {"channels": channels, "height": height, "width": width, "bits": 8 * pixels.itemsize, **encoded}


if __name__ == "__main__":
    stored = [{"name": name, **sample(content, 3)} for name, content in files().items()]
    FILE.write_text(json.dumps(stored, indent=1) + "\n")
