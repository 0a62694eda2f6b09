"""TIFF files that are damaged, or whose headers lie."""

import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_tiff import draw, write
from pyramidseg.base.errors import DataError, MissingExtra
from pyramidseg.images.decode import read_header, read_image


def raw_tiff(data: bytes, *, height: int, width: int, bands: int, compression: int = 1) -> bytes:
    """A file of one strip of bytes that says of itself whatever it is told to."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 273: 0, 277: bands, 278: height, 279: len(data)}
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in sorted(tags.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def bomb(compression: int) -> bytes:
    """10 MB of zeros, in the kind of compression that a tag's value stands for."""
    if compression == 8:
        return zlib.compress(bytes(10**7), 9)
    imagecodecs = pytest.importorskip("imagecodecs")
    encode = {50000: imagecodecs.zstd_encode, 34925: imagecodecs.lzma_encode}[compression]
    return bytes(encode(bytes(10**7)))


class TestHostileFiles:
    @pytest.mark.parametrize(
        ("height", "width", "bands", "complaint"),
        [
            (9000, 9000, 5, "100 bytes cannot hold its 405000000 bytes|cannot be read"),
            (10**6, 10**6, 5, "1000000 x 1000000 pixels exceed the limit of 250 million"),
            (15000, 15000, 60, "an image may have 1 to 1000 million values"),
            (0, 10, 5, "an image may have 1 to 1000 million values"),
            (8, 8, 10**6, "cannot be read as an image"),
        ],
    )
    def test_a_header_that_lies_is_refused_at_once(
        self, tmp_path: Path, height: int, width: int, bands: int, complaint: str
    ) -> None:
        path = tmp_path / "lie.tif"
        path.write_bytes(raw_tiff(bytes(100), height=height, width=width, bands=bands))
        with pytest.raises(DataError, match=rf"lie\.tif: .*({complaint})"):
            read_image(path, channels=bands)

    @pytest.mark.parametrize("compression", [8, 50000, 34925])
    def test_a_bomb_unfolds_no_further_than_its_strip(self, tmp_path: Path, compression: int) -> None:
        path = tmp_path / "bomb.tif"
        path.write_bytes(raw_tiff(bomb(compression), height=16, width=16, bands=5, compression=compression))
        tracemalloc.start()
        with suppress(DataError):
            read_image(path, channels=5)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * 10**6

    def test_compressions_that_bring_their_own_sizes_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(raw_tiff(bytes(100), height=16, width=16, bands=5, compression=34887))
        with pytest.raises(
            DataError, match=r"a\.tif: 5 bands .* in TIFF compression 34887, which is not supported; save the file"
        ):
            read_header(path)

    @pytest.mark.parametrize("compression", [None, "deflate"])
    def test_a_truncated_file_is_named(self, tmp_path: Path, compression: str | None) -> None:
        path = write(tmp_path / "a.tif", draw(5, np.int16), compression=compression)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(DataError, match=r"a\.tif: cannot be read as an image: .+; replace or remove the file"):
            read_image(path, channels=5)

    @given(
        places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
        compression=st.sampled_from([None, "deflate"]),
        planar=st.booleans(),
        tiled=st.booleans(),
        head=st.booleans(),
    )
    @settings(max_examples=300, deadline=None)
    def test_damaged_bytes_give_an_image_or_a_data_error(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        places: list[tuple[float, int]],
        compression: str | None,
        planar: bool,
        tiled: bool,
        head: bool,
    ) -> None:
        path = tmp_path_factory.getbasetemp() / "mutant.tif"
        values = draw(5, np.uint16, height=24, width=24)
        write(path, values, planar=planar, compression=compression, **({"tile": (16, 16)} if tiled else {}))
        content = bytearray(path.read_bytes())
        for place, value in places:
            content[int(place * (min(300, len(content)) if head else len(content)))] = value
        path.write_bytes(content)
        with suppress(DataError, MissingExtra):
            header = read_header(path)
            image = read_image(path, channels=header.channels)
            assert (*image.shape, str(image.dtype)) == header[:4]
