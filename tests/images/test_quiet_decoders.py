"""Decoders print nothing themselves: the error of a damaged file is one line of ours."""

import random

import cv2
import numpy as np
import pytest

from pyramidseg.base.errors import DataError
from pyramidseg.images.decode import read_image


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773], ids=["plain", "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_damaged_files_print_nothing(tmp_path, capfd, recwarn, depth, compression, suffix):
    values = np.random.default_rng(0).integers(0, np.iinfo(depth).max, (64, 64, 3)).astype(depth)
    parameters = [cv2.IMWRITE_TIFF_COMPRESSION, compression] if suffix == ".tif" else []
    content = cv2.imencode(suffix, values, parameters)[1].tobytes()
    path, errors = tmp_path / f"a{suffix}", []
    for seed in range(20):
        rng, damaged = random.Random(seed), bytearray(content)
        for _ in range(20):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: len(damaged) if seed % 3 else rng.randrange(len(damaged))])
        try:
            read_image(path, channels=3)
        except DataError as error:
            errors.append(str(error))
    assert len(errors) > 3 and "\n" not in "".join(errors)
    assert "".join(capfd.readouterr()) == ""
