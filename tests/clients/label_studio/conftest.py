"""One Label Studio for all tests."""

from collections.abc import Iterator

import pytest

from real_label_studio import LabelStudio, label_studio_process


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """A running Label Studio; starting it takes a minute."""
    pytest.importorskip("label_studio", reason="make test-clients")
    with label_studio_process(tmp_path_factory.mktemp("label_studio")) as found:
        yield found
