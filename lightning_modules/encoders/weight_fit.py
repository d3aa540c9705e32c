"""Do weights fit a network? If not, which of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Size, Tensor, nn

from pipeline.errors import PollinateError

SHOWN = 5  # names in a message


def load_fitting(network: nn.Module, weights: Mapping[str, Tensor], place: object) -> None:
    """Load weights of which each has a place; those that the network has no use for are left out.

    Args:
        network: gets the weights.
        weights: {name: tensor}; a classifier's, say, may be among them.
        place: where they are from, for the message.

    Raises:
        PollinateError: a weight is missing or has another shape.
    """
    own = network.state_dict()
    refuse(differences(own, {name: value.shape for name, value in weights.items()}), place)
    network.load_state_dict({name: weights[name] for name in own if name in weights}, strict=False)


def differences(own: Mapping[str, Tensor], found: Mapping[str, Size]) -> list[str]:
    """Return ``NAME: SHAPE there, SHAPE here`` for each weight that doesn't fit.

    A counter of batches may be missing: older files have none, and it decides nothing.
    """
    return [
        f"{name}: {tuple(found[name]) if name in found else 'nothing'} there, "
        f"{tuple(value.shape)} here"
        for name, value in own.items()
        if found.get(name) != value.shape and not name.endswith("num_batches_tracked")
    ]


def refuse(wrong: Sequence[str], place: object) -> None:
    """Raise if anything is wrong.

    Raises:
        PollinateError: with the first names.
    """
    if wrong:
        rest = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise PollinateError(
            f"the weights of {place} don't fit the model: {'; '.join(wrong[:SHOWN])}{rest}. "
            "Name the model that they are of, or start from scratch: weights=false"
        )
