"""Refuse files above 1 MB, except locks and the files of the compatibility tests. Run by pre-commit."""

import sys
from pathlib import Path

MAX_BYTES = 1_000_000
EXEMPT = ("requirements", "tests/compatibility/files/")

if __name__ == "__main__":
    large = [
        f"{name}: {Path(name).stat().st_size:,} bytes"
        for name in sys.argv[1:]
        if not name.startswith(EXEMPT) and Path(name).is_file() and Path(name).stat().st_size > MAX_BYTES
    ]
    if large:
        sys.exit(f"at most {MAX_BYTES:,} bytes are allowed in a file: {'; '.join(large)}")
