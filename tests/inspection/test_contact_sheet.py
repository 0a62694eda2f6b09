import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.inspection.contact_sheet import Showcase

K = 5

counts = st.lists(st.lists(st.integers(0, 9), min_size=K, max_size=K), max_size=12)


def showcase(images: list[list[int]], *, skip: frozenset[int] = frozenset()) -> Showcase:
    made = Showcase(K, len(images))
    for place, pixels in enumerate(images):
        if place not in skip:
            labels = np.zeros(256, np.int64)
            labels[:K], labels[255] = pixels, 3
            made.offer(place, labels)
    return made


@given(counts, st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_every_class_that_occurs_is_shown(images: list[list[int]], wanted: int) -> None:
    chosen = showcase(images).choice(wanted)
    for index in range(K):
        if any(pixels[index] for pixels in images):
            assert any(images[place][index] for place in chosen)


@given(counts, st.integers(1, 8))
@settings(max_examples=80, deadline=None)
def test_as_many_as_wanted_are_shown_where_there_are_so_many(images: list[list[int]], wanted: int) -> None:
    chosen = showcase(images).choice(wanted)
    assert chosen == sorted(set(chosen))
    assert min(wanted, len(images)) <= len(chosen) <= max(wanted, K)


def test_images_that_could_not_be_used_are_never_shown() -> None:
    images = [[index, 1, 0, 0, 0] for index in range(9)]
    assert set(showcase(images, skip=frozenset({2, 8})).choice(9)) == {0, 1, 3, 4, 5, 6, 7}


def test_a_class_is_shown_by_the_image_that_it_covers_most_of() -> None:
    images = [[9, 1, 0, 0, 0], [1, 9, 0, 0, 0], [5, 5, 0, 0, 0]]
    assert set(showcase(images).choice(1)) == {0} or set(showcase(images).choice(1)) == {1}
    assert 1 in showcase([[9, 0, 0, 0, 0], [1, 9, 0, 0, 0], [5, 5, 0, 0, 0]]).choice(1)


def test_images_in_between_are_spread_evenly() -> None:
    assert showcase([[1, 1, 1, 1, 1]] * 100).choice(5) == [0, 1, 34, 66, 99]
