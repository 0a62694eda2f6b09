import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_files import save
from pyramidseg.formats.mask_sampling import count_mask_values


@given(st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=20), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_counts_equal_a_loop(tmp_path_factory: pytest.TempPathFactory, content: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("held")
    files = []
    for index, values in enumerate(content):
        save(folder / f"{index}.png", np.array([values], np.uint16))
        files.append(folder / f"{index}.png")
    held = count_mask_values(files)
    everything = [value for values in content for value in values]
    assert dict(held.pixels) == {value: everything.count(value) for value in everything}
    for value in everything:
        assert held.masks[value] == sum(value in values for values in content)
        assert held.first[value] == next(file for file, values in zip(files, content, strict=True) if value in values)
        assert held.share(value) == everything.count(value) / len(everything)
