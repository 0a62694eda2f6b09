"""smp's names of our tensors."""

import re

HEAD = "segmentation_head.0"
"""Its last convolution: our classifier."""

AUXILIARY_HEAD = "classification_head."

FIRST_BRANCH = "decoder.seg_blocks.0.block.0.block"
"""The semantic branch's first convolution (0) and its norm (1)."""


def lateral_name(level: int) -> str:
    """Name of the lateral 1x1 convolution of a level, 2 (finest) to 5, without `.weight` or `.bias`."""
    return f"decoder.p{level}" if level == 5 else f"decoder.p{level}.skip_conv"


def smp_name(name: str, *, encoder: str = "encoder.") -> str:
    """The name in smp of one of our tensors; `encoder` begins the names of its encoder's."""
    if name.startswith("encoder.network."):
        return name.replace("encoder.network.", encoder, 1)
    if name.startswith("classifier."):
        return name.replace("classifier", HEAD, 1)
    if lateral := re.fullmatch(r"decoder\.pyramid\.lateral\.(\d)\.(\w+)", name):
        return f"{lateral_name(2 + int(lateral[1]))}.{lateral[2]}"
    branch = re.fullmatch(r"decoder\.branches\.(\d)\.(\d)\.(conv|norm)\.(\w+)", name)
    assert branch is not None, name
    layer = {"conv": 0, "norm": 1}[branch[3]]
    # It lists levels from the coarsest, we from the finest.
    return f"decoder.seg_blocks.{3 - int(branch[1])}.block.{branch[2]}.block.{layer}.{branch[4]}"
