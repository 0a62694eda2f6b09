"""Parts of an encoder: what is frozen with a part, and nothing of the parts behind it."""

import pytest

from pyramidseg.model.encoder import Encoder, part_finder


@pytest.mark.parametrize(
    "name",
    ["resnet18", "tf_efficientnet_b0", "convnext_atto", "hrnet_w18_small", "xception41"],
)
def test_a_module_holds_nothing_of_a_later_part(name: str) -> None:
    encoder = Encoder(name, weights="none")
    part_of = part_finder(encoder)
    for path, module in [*encoder.named_modules()][1:]:
        assert all(part_of(f"{path}.{key}") <= part_of(path) for key in module.state_dict()), path
