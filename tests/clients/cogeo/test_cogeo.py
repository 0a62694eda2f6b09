"""Labels of images that are predicted in windows, checked by rio-cogeo."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rio_cogeo", reason="make test-clients")

import rasterio
from rio_cogeo.cogeo import cog_info, cog_validate

from made_geo import TRANSFORM, UTM, write_image
from made_scenes import mask_of, predict, smooth, whole_labels


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of rio-cogeo itself
@pytest.mark.parametrize(("height", "width"), [(300, 200), (1100, 1700)])
@pytest.mark.parametrize(
    "transform", [TRANSFORM, (0.3, 0.1, 733601.1, -0.2, -0.5, 3725139.7)], ids=["north", "rotated"]
)
def test_labels_are_a_valid_cog(
    height: int, width: int, transform: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 20_000)
    path = write_image(tmp_path / "a.tif", smooth(height, width), photometric="RGB", transform=transform)
    assert not predict(path, tmp_path / "out").failed
    found = tmp_path / "out" / "a_mask.tif"
    valid, errors, warnings = cog_validate(found, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    info = cog_info(found)
    assert info.COG and info.Compression == "DEFLATE" and info.Profile.Nodata == 255
    assert info.GEO.CRS == UTM
    assert [level.Width for level in info.IFD] == [width // 2**level for level in range(len(info.IFD))]
    assert len(info.IFD) == (1 if max(height, width) <= 512 else 3)
    with rasterio.open(found) as file:
        assert file.colorinterp[0].name == "palette" and tuple(file.transform)[:6] == transform
    assert np.array_equal(mask_of(tmp_path / "out"), whole_labels(path, monkeypatch))
