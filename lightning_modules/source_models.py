"""Models that were trained before, from which knowledge is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from lightning_modules.building import LINEAR, MEMBERS, MODEL
from lightning_modules.predictor import Predictor
from pollinate.errors import UsageError


@dataclass(frozen=True)
class SourceModel:
    """A model that was trained before.

    name: as the user called it.
    digest: of its files: what the run depends on.
    weights: {name: tensor}; names of a model of this project are as in its network:
        ``encoders.image...``, ``trunk...``, ``heads.<task>...``.
    spec: from which a model of this project can be built again, None of other models.
    load: builds it, with its weights, tokenizer and vocabularies.
    adapter: peft's adapter_config.json beside the weights of another library, None without one.
    """

    name: str
    digest: str
    weights: Mapping[str, Tensor]
    spec: Mapping[str, Any] | None
    load: Callable[[], Predictor]
    adapter: Mapping[str, Any] | None = None

    def predictor(self) -> Predictor:
        """Return the model, in evaluation mode, with all that it needs around it.

        Raises:
            UsageError: it is no model of this project, and has no tasks.
        """
        if self.spec is None:
            raise UsageError(
                f"{self.name} must be a run of this project, which knows its tasks, got a folder "
                "of another library; train heads on it first: python -m pipeline.fit"
            )
        return self.load()

    def single_network(self) -> SourceModel:
        """Return itself, whose features or weights are wanted.

        Raises:
            UsageError: it is an ensemble.
        """
        if self.spec is not None:
            refuse_ensemble(self.name, self.spec)
        return self

    @property
    def learnt(self) -> Mapping[str, Any]:
        """Vocabularies and tokenizers; empty for other libraries' models."""
        return {} if self.spec is None else self.spec["learnt"]


def refuse_ensemble(name: str, spec: Mapping[str, Any]) -> None:
    """Refuse a model of several networks where features or weights are wanted.

    Args:
        name: as the user called it.
        spec: what its checkpoint says of it.
    """
    if spec["config"].get(MODEL) == LINEAR:
        raise UsageError(
            f"{name} is a linear model, which predicts, but has neither features nor weights of a "
            "network; learn from its predictions: transfer=hinton"
        )
    if MEMBERS in spec["config"]:
        raise UsageError(
            f"{name} is an ensemble, which predicts, but has neither features nor weights of its "
            "own; name one of its members, or learn from its predictions: transfer=hinton"
        )


class SourceProvider(Protocol):
    """Opens sources by what a user calls them."""

    def open(self, what: str) -> SourceModel:
        """Return the source.

        Raises:
            PollinateError: there is none, or it changed since the run was started.
        """
