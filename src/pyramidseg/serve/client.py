"""A client of the server, with the interface of `Predictor`."""

import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError, DataError, OutputError
from pyramidseg.base.text import first_line
from pyramidseg.predict.input_images import ImageLike, check_image, image_array, image_name
from pyramidseg.predict.segmentation import Segmentation

HEADER = "Inference-Header-Content-Length"
DATATYPES = {"uint8": "UINT8", "uint16": "UINT16", "int16": "INT16", "float32": "FP32"}


class Client:
    """Segments images with a model of `pyramidseg serve`; results are equal in every byte to those of its `Predictor`.

    Args:
        url: of the server, such as `http://localhost:8000`.
        model: name; by default the only one.
        token: of the server, if it needs one.
        timeout_s: longest wait for an answer.

    Raises:
        ConfigError: the server cannot be reached, does not accept the token, or does not have the model.
    """

    def __init__(self, url: str, *, model: str | None = None, token: str | None = None, timeout_s: float = 120) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"url={url}: has to start with http:// or https://, such as http://localhost:8000")
        self.url, self._token, self._timeout_s = url.rstrip("/"), token, timeout_s
        self._read_card(model)

    def _read_card(self, model: str | None) -> None:
        listed = self._request("/models")[0]
        try:
            cards = {card["name"]: card for card in json.loads(listed)}
        except (ValueError, TypeError, KeyError):
            raise ConfigError(f"{self.url}: is not a server of pyramidseg; start one with pyramidseg serve") from None
        if model is None and len(cards) == 1:
            (model,) = cards
        if model is None or model not in cards:
            raise ConfigError(f"`model={model}`: {self.url} has the models {', '.join(cards)}; choose one")
        found = cards[model]["classes"]
        self.model, self._version = model, cards[model]["version"]
        self.classes = Classes.from_dict({"names": [c["name"] for c in found], "colors": [c["color"] for c in found]})

    def predict(self, image: ImageLike, *, confidence: bool = False, probabilities: bool = False) -> Segmentation:
        """Segment one image, as `Predictor.predict` does.

        Raises:
            DataError: the server cannot read the image, or refuses it.
            OutputError: it is busy or fails.
        """
        if isinstance(image, (str, Path)):
            image = Path(image).read_bytes()
        if isinstance(image, (bytes, bytearray)):
            datatype, shape, content = "BYTES", [1], len(image).to_bytes(4, "little") + image
        else:
            name = image_name(image)
            array = np.moveaxis(check_image(image_array(image, name), name), -1, 0)[None]
            datatype, shape, content = DATATYPES[str(array.dtype)], list(array.shape), array.tobytes()
        names = ["labels", *["confidence"] * confidence, *["probabilities"] * probabilities]
        size = {"binary_data_size": len(content)}
        head = {
            "inputs": [{"name": "image", "datatype": datatype, "shape": shape, "parameters": size}],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in names],
        }
        start = json.dumps(head).encode()
        path = f"/v2/models/{quote(self.model)}/infer"
        body, headers = self._request(path, start + content, {HEADER: str(len(start))})
        place, found = int(headers[HEADER]), dict[str, Any]()
        answer = json.loads(body[:place])
        if answer.get("parameters", {}).get("bundle") not in (None, self._version):  # another one has been loaded
            self._read_card(self.model)
        for output in answer["outputs"]:
            end = place + output["parameters"]["binary_data_size"]
            dtype = np.uint8 if output["datatype"] == "UINT8" else np.float32
            values = np.frombuffer(body[place:end], dtype).reshape(output["shape"])
            found[output["name"]], place = values[0].copy(), end
        return Segmentation(classes=self.classes, **found)

    def _request(self, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        """The body and the headers of an answer."""
        own = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        kind = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(self.url + path, body, own | kind | (headers or {}))  # noqa: S310 - checked
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:  # noqa: S310 - checked
                return answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            text = error.read(2**12).decode(errors="replace").removeprefix('{"error":"').removesuffix('"}')
            message = f"{self.url} answered {error.code}: {' '.join(text.split())[:500]}"
            kinds = {400: DataError, 413: DataError, 401: ConfigError, 404: ConfigError}
            raise kinds.get(error.code, OutputError)(message) from None
        except (OSError, http.client.HTTPException) as error:
            raise ConfigError(f"{self.url}: cannot be reached: {first_line(error)}; is the server running?") from None
