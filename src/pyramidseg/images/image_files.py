"""Find image files by name: recursively, sorted, without hidden files."""

import os
from pathlib import Path

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
"""Extensions of the files that a folder is searched for, in lower case. `open_image` ignores the extension and goes by
the first bytes of the file."""


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder and its subfolders; see `list_files`."""
    return list_files(folder, IMAGE_EXTENSIONS)


def list_files(folder: Path, extensions: tuple[str, ...]) -> list[Path]:
    """The files of a folder and its subfolders with one of the extensions, sorted by relative path.

    Symbolic links are followed. Hidden files and folders, such as `._a.jpg` and `.ipynb_checkpoints`, are left out.

    Args:
        extensions: in lower case; case is ignored in file names.
    """
    found: list[tuple[tuple[str, ...], Path]] = []
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a parent folder would never end
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(parent).relative_to(folder).parts
        found += [((*relative, name), Path(parent, name)) for name in files if _has_extension(name, extensions)]
    return [path for _, path in sorted(found)]


def is_image_name(name: str) -> bool:
    """Whether a file name has the extension of an image and is not hidden."""
    return _has_extension(name, IMAGE_EXTENSIONS)


def _has_extension(name: str, extensions: tuple[str, ...]) -> bool:
    return not name.startswith(".") and name.lower().endswith(extensions)
