"""Parts of an encoder: what is frozen with a part, and nothing of the parts behind it."""

import pytest

from pyramidseg.model.encoder import Encoder, modules_by_part, part_finder


@pytest.mark.parametrize(
    "name",
    ["resnet18", "tf_efficientnet_b0", "convnext_atto", "hrnet_w18_small", "xception41"],
)
def test_a_module_holds_nothing_of_a_later_part(name: str) -> None:
    encoder = Encoder(name, weights="none")
    part_of = part_finder(encoder)
    paths = [path for path, _ in encoder.named_modules() if path]
    for path, (part, module) in zip(paths, modules_by_part(encoder), strict=True):
        assert all(part_of(f"{path}.{key}") <= part for key in module.state_dict()), path
