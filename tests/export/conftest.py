"""The bundle and its exports, for all tests of this folder."""

from made_exports import bundle, exported, traced_once

__all__ = ["bundle", "exported", "traced_once"]
