"""Local copies of sources behind URLs, which exist while their images are predicted."""

import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path, PurePath

from pyramidseg.base.errors import DataError
from pyramidseg.base.remote_files import fetch, is_url, url_name
from pyramidseg.predict.pipeline import map_in_order
from pyramidseg.predict.source_lists import Source
from pyramidseg.predict.summary_file import PredictionEntry

FETCH_THREADS = 8


class FetchedSources:
    """Paths of sources in order; those behind URLs are fetched ahead by threads, a bounded number at a time."""

    def __init__(self, sources: Sequence[Source], folder: Path, *, ahead: int) -> None:
        self._sources, self._folder, self._ahead = sources, folder, ahead
        self._copies: dict[str, Path] = {}
        self._errors: dict[str, str] = {}

    def paths(self) -> Generator[Path, None, None]:
        """A path for each source; it does not exist if the source could not be fetched."""
        if not any(is_url(source.location) for source in self._sources):
            yield from (source.path for source in self._sources)
            return
        numbered = enumerate(self._sources)
        ahead = FETCH_THREADS + self._ahead
        fetching = map_in_order(self._fetch, numbered, threads=FETCH_THREADS, ahead=ahead, name="fetch")
        with closing(fetching):
            yield from fetching

    def release(self, source: Source) -> None:
        """Delete the copy of a source."""
        if (copy := self._copies.pop(source.location, None)) is not None:
            copy.unlink(missing_ok=True)

    def explained(self, entry: PredictionEntry, source: Source) -> PredictionEntry:
        """An entry whose error names the URL instead of the copy, or says why it could not be fetched."""
        if entry.error is None or (copy := self._copies.get(source.location)) is None:
            return entry
        own = self._errors.pop(source.location, None)
        return replace(entry, error=own or entry.error.replace(str(copy), source.location))

    def _fetch(self, numbered: tuple[int, Source]) -> Path:
        number, source = numbered
        if not is_url(source.location):
            return source.path
        name = f"{number}{PurePath(url_name(source.location)).suffix}"
        self._copies[source.location] = self._folder / name
        try:
            fetch(source.location, self._folder, name=name)
        except DataError as error:
            self._errors[source.location] = str(error)
        return self._folder / name


@contextmanager
def fetched(sources: Sequence[Source], *, ahead: int) -> Iterator[FetchedSources]:
    """`FetchedSources` in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield FetchedSources(sources, Path(folder), ahead=ahead)
