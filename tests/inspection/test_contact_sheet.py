import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.inspection.contact_sheet import SampleSelector

K = 5

counts = st.lists(st.lists(st.integers(0, 9), min_size=K, max_size=K), max_size=12)


def selector(images: list[list[int]], *, skip: frozenset[int] = frozenset()) -> SampleSelector:
    made = SampleSelector(K)
    for place, pixels in enumerate(images):
        if place not in skip:
            labels = np.zeros(256, np.int64)
            labels[:K], labels[255] = pixels, 3
            made.add(place, labels)
    return made


@given(counts, st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_every_class_that_occurs_is_shown(images: list[list[int]], wanted: int) -> None:
    chosen = selector(images).select(wanted)
    for index in range(K):
        if any(pixels[index] for pixels in images):
            assert any(images[place][index] for place in chosen)


@given(counts, st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_the_requested_number_of_images_is_shown_if_available(images: list[list[int]], wanted: int) -> None:
    chosen = selector(images).select(wanted)
    assert chosen == sorted(set(chosen))
    assert min(wanted, len(images)) <= len(chosen) <= max(wanted, K)


def test_unusable_images_are_never_shown() -> None:
    images = [[index, 1, 0, 0, 0] for index in range(9)]
    assert set(selector(images, skip=frozenset({2, 8})).select(9)) == {0, 1, 3, 4, 5, 6, 7}


def test_each_class_is_shown_by_the_image_with_its_largest_share() -> None:
    images = [[9, 1, 0, 0, 0], [1, 9, 0, 0, 0], [5, 5, 0, 0, 0]]
    assert set(selector(images).select(1)) == {0} or set(selector(images).select(1)) == {1}
    assert 1 in selector([[9, 0, 0, 0, 0], [1, 9, 0, 0, 0], [5, 5, 0, 0, 0]]).select(1)


def test_further_images_are_evenly_spaced() -> None:
    assert selector([[1, 1, 1, 1, 1]] * 100).select(5) == [0, 1, 34, 66, 99]
