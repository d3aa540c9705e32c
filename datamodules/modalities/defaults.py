"""The modalities that there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

from datamodules.modalities.audio import AudioModality
from datamodules.modalities.base import Modality
from datamodules.modalities.image import ImageModality
from datamodules.modalities.text import TextModality
from pollinate.errors import UsageError
from pollinate.suggest import hint

MODALITIES: dict[str, type[Modality]] = {
    "audio": AudioModality,
    "image": ImageModality,
    "text": TextModality,
}


def make_modality(name: str, options: Mapping[str, Any]) -> Modality:
    """Return a modality by its name.

    Args:
        name: audio, image or text.
        options: arguments of its class; what is left out has its default.
    """
    if name not in MODALITIES:
        raise UsageError(f"there is no modality {name!r}{hint(name, MODALITIES, 'modalities')}")
    kind = MODALITIES[name]
    allowed = list(signature(kind).parameters)
    for option in options:
        if option not in allowed:
            raise UsageError(f"{name} has no option {option!r}{hint(option, allowed, 'options')}")
    return kind(**options)
