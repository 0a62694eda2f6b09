"""Names of images that lead to no file here: URLs, encoded names, and paths of another machine."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from pyramidseg.images.image_files import list_images


def leads_elsewhere(name: str) -> bool:
    """Whether a name was written for another place: absolute, a URL, encoded, with backslashes or with `..`."""
    return bool(re.search(r"^/|^[A-Za-z]:|\\|%[0-9A-Fa-f]{2}|\?|://|(^|/)\.\.(/|$)", name))


def only_images_named(
    names: Mapping[int, str], root: Path, *, used: Collection[Path], not_in: Collection[str]
) -> dict[int, Path]:
    """The image for each name whose last part only one image of the dataset has. Nothing outside `root` is found.

    Args:
        used: images that belong to other names.
        not_in: names of folders, in lower case, whose images belong to other splits.

    Returns:
        By the keys of `names`; an image that two names could mean is given to none.
    """
    by_name: dict[str, list[Path]] = {}
    for path in list_images(root):
        if not {part.lower() for part in path.relative_to(root).parts[:-1]} & set(not_in):
            by_name.setdefault(path.name, []).append(path)
    found: dict[int, Path] = {}
    for key, name in names.items():
        meant = {path for last in last_parts(name) for path in by_name.get(last, ())}
        if len(meant) == 1:
            found[key] = meant.pop()
    claims = Counter((*found.values(), *used))
    return {key: path for key, path in found.items() if claims[path] == 1}


def without_leading_folders(name: str) -> Iterator[str]:
    """The ends of an absolute path of another machine, the longest first; none for a relative path."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        yield from ("/".join(parts[at:]) for at in range(len(parts)))


def last_parts(name: str) -> Iterable[str]:
    """`a b.jpg` for `x/a b.jpg`, `https://host/a%20b.jpg?v=1` and `/local-files/?d=x/a%20b.jpg`."""
    for text in (name, unquote(name)):
        path, _, query = text.partition("?")
        for part in (text, path, query.partition("=")[2].partition("&")[0]):
            yield re.split(r"[/\\]", part)[-1]
