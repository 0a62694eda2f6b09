"""What a server tells about one of its models, without the model itself: it can be in another process."""

import hashlib
from dataclasses import dataclass
from typing import Any

from pyramidseg.base.classes import Classes
from pyramidseg.model.bundle import read_description
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.tta import TestTimeAugmentation


@dataclass(frozen=True)
class ServedModel:
    """A model by name, with the metrics in its bundle and the SHA-256 of it (empty for a model in memory).

    Attributes:
        backend: and every other setting that can change a result, as text.
        values: of the pixels in training, as text.
    """

    name: str
    classes: Classes
    channels: int
    backend: str
    settings: str
    values: str
    scores: dict[str, Any]
    digest: str = ""

    @classmethod
    def describe(cls, name: str, predictor: Predictor, path: str = "") -> "ServedModel":
        """With the scores and the digest in its file, a bundle or an exported file."""
        backend, planner = predictor.backend, predictor.tile_planner
        plain = backend.backend if isinstance(backend, TestTimeAugmentation) else backend
        facts = read_description(path).facts if path.endswith(".safetensors") else {}
        return cls(
            name,
            predictor.classes,
            backend.in_channels,
            str(backend),
            f"{backend} {planner.tile_px} {planner.overlap_px}",
            str(predictor.check_range.trained or "unknown"),
            dict(facts.get("metrics") or {}),
            getattr(plain, "checksum", None) or "",
        )

    @property
    def version(self) -> str:
        """Changes with the bundle and with every setting that can change a result."""
        return f"{self.name}-{hashlib.sha256(f'{self.digest} {self.settings}'.encode()).hexdigest()[:12]}"

    def card(self) -> dict[str, Any]:
        """For the list of models."""
        colored = zip(self.classes.names, self.classes.colors, strict=True)
        size = "any; large images are predicted in tiles"
        return {
            "name": self.name,
            "version": self.version,
            "classes": [{"name": name, "color": list(color)} for name, color in colored],
            "scores": self.scores,
            "input": {"channels": self.channels, "size": size, "values in training": self.values},
            "backend": self.backend,
            "digest": self.digest,
        }
