"""Print the pins of the encoder weights that `encoder_weights=imagenet` takes from the Hugging Face hub.

    python scripts/pin_hub_weights.py

Run it on a machine that reaches the hub, and enter its lines in `PINS` of `src/pyramidseg/model/hub_weights.py`. Each
file is downloaded, and checked against its network as training does, before its digest is printed.
"""

import hashlib
import json

from pyramidseg.model.encoder import Encoder
from pyramidseg.model.encoder_weights import IMAGENET_TAGS
from pyramidseg.model.hub_weights import fetch_weights


def main() -> None:
    """One line for each network of the table."""
    for network, tag in IMAGENET_TAGS.items():
        Encoder(network, weights=tag)
        file, _ = fetch_weights(f"{network}.{tag}")
        revision = file.parent.name  # the hub's cache has a folder `snapshots/REVISION`
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        print(f"    {json.dumps(f'{network}.{tag}')}: Pin({json.dumps(revision)}, {json.dumps(digest)}),")


if __name__ == "__main__":
    main()
