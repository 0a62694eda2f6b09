"""Check a commit's subject: one line of at most 72 characters, without a full stop. Run by pre-commit."""

import sys
from pathlib import Path

MAX_LENGTH = 72


def complaint(message: str) -> str | None:
    """What is wrong with the message's first line; None if nothing is."""
    subject = message.split("\n", 1)[0]
    if subject.startswith(("Merge ", "Revert ", "fixup! ", "squash! ")):
        return None
    if not subject.strip():
        return "the subject is empty"
    if len(subject) > MAX_LENGTH:
        return f"the subject has {len(subject)} characters, at most {MAX_LENGTH} are allowed: {subject!r}"
    if subject.endswith("."):
        return f"the subject ends with a full stop: {subject!r}"
    return None


if __name__ == "__main__":
    found = complaint(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if found:
        sys.exit(f"commit message: {found}")
