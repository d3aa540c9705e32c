"""The encoder contract: raw modality in, features out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from datamodules.features import Features
from lightning_modules.freezing import (
    Groups,
    freeze_mode,
    hold_statistics,
    parameter_groups_of,
)
from lightning_modules.routing import Routing
from pollinate.errors import UsageError
from pollinate.recipes import Buildable


@dataclass(frozen=True)
class TokenLayer:
    """A layer that turns a text's token ids (N, L) into vectors (N, L, E), token by token.

    A vector of zeros says nothing.

    Args:
        layer: whose output the vectors are; called once for each batch.
        pairs: whether a vector stands for its token and the one before it.

    Examples:
        >>> import torch, pollinate as po
        >>> class Means(po.encoders.Encoder):
        ...     def __init__(self, vocab_size, dim):
        ...         super().__init__()
        ...         self.dim = dim
        ...         self.table = torch.nn.Embedding(vocab_size, dim, padding_idx=0)
        ...     def token_layers(self):  # so that pollinate explain can explain words
        ...         return [po.encoders.TokenLayer(self.table)]
        ...     def forward(self, inputs):
        ...         return po.Features(self.table(inputs).mean(dim=1))
        >>> [one.pairs for one in Means(vocab_size=50, dim=8).token_layers()]
        [False]
    """

    layer: nn.Module
    pairs: bool = False


class Encoder(nn.Module, metaclass=Buildable):
    """Turns the rows of one modality, whatever data set they come from, into features.

    Attributes:
        dim: width D of ``Features.pooled``, >= 1.
        needs: packages, besides those of every run, that it is built with.
        outer: options on which what ``backbone`` returns doesn't depend, its weights given.
        routing: must know the tasks of the rows of a call; None: rows are alike to all tasks.

    Examples:
        >>> import torch, pollinate as po
        >>> class Means(po.encoders.Encoder):
        ...     def __init__(self, in_features, dim):
        ...         super().__init__()
        ...         self.dim = dim
        ...         self.layer = torch.nn.Linear(in_features, dim)
        ...     def forward(self, inputs):
        ...         return po.Features(self.layer(inputs.nanmean(dim=1)))
        >>> Means(in_features=3, dim=8)(torch.ones(4, 10, 3)).pooled.shape
        torch.Size([4, 8])
    """

    given_later: ClassVar[frozenset[str]] = frozenset(
        {"dim", "vocab_size", "in_channels", "in_features", "assets"}
    )
    for_builder: ClassVar[frozenset[str]] = frozenset({"tune"})

    dim: int
    needs: ClassVar[tuple[str, ...]] = ()
    outer: ClassVar[frozenset[str]] = frozenset()
    routing: Routing | None = None

    @abstractmethod
    def forward(self, inputs: Tensor) -> Features:
        """Encode a batch.

        Args:
            inputs: image: (N, C, H, W) float, normalised; text: (N, L) int64 token ids, 0 is
                padding.

        Returns:
            Features with pooled (N, D).
        """

    def tuned_part(self) -> nn.Module:
        """Return the part that ``tune`` is about."""
        return self

    def backbone(self, inputs: Tensor) -> Features:
        """Return what ``tuned_part`` makes of the inputs: forward(x) = finish(backbone(x))."""
        features: Features = self(inputs)
        return features

    def finish(self, features: Features) -> Features:
        """Put the encoder's own layers on what ``backbone`` returned, whatever of it is given."""
        return features

    def token_layers(self) -> Sequence[TokenLayer]:
        """Return the layers through which alone the tokens of a text come, each called once.

        None: words of a text can't be told apart in what the encoder answers.
        """
        return ()

    def tuned_groups(self) -> Groups:
        """Return the backbone's parameters in groups: what stands before the blocks, each block."""
        return parameter_groups_of(self.tuned_part())

    def train(self, mode: bool = True) -> Self:
        """Switch dropout and norms; the statistics of frozen norms stay as they are.

        A backbone of which no weight trains is always in evaluation mode, without dropout.
        """
        super().train(mode)
        hold_statistics(self)
        freeze_mode(self.tuned_part())
        return self


class PretrainedEncoder(Encoder):
    """An encoder around a network of another library.

    It is built from what ``assets_of`` returns, which is in every checkpoint: a checkpoint can be
    loaded where the model that the run started from is gone.

    Attributes:
        model: a public name, or a place here.
        known: what ``assets_of`` returned.

    Examples:
        >>> import torch, pollinate as po
        >>> encoder = po.encoders.TransformersText(85, dim=8, model="text_model", weights=False)
        >>> isinstance(encoder, po.encoders.PretrainedEncoder)
        True
        >>> encoder.known["architecture"]["model_type"]  # what a checkpoint brings along
        'bert'
    """

    outer: ClassVar[frozenset[str]] = frozenset(
        ("checkpointing", "dim", "file", "model", "names", "weights")
    )
    model: str
    known: Mapping[str, Any]

    @classmethod
    @abstractmethod
    def assets_of(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return architecture and preprocessing as plain values.

        Args:
            options: of the configuration, of which the model's name matters.

        Raises:
            PollinateError: there is no such model, or it is of another kind.
        """

    @abstractmethod
    def load(self) -> None:
        """Take over the weights that a new run starts from; a checkpoint needs none of them.

        Raises:
            PollinateError: there are none, or they don't fit.
        """

    @abstractmethod
    def tuned_part(self) -> nn.Module:
        """Return the other library's network, without what was put on it here."""

    @abstractmethod
    def backbone(self, inputs: Tensor) -> Features:
        """Return the other library's features, in its widths."""

    @abstractmethod
    def finish(self, features: Features) -> Features:
        """Bring features of the other library to the width D."""

    def forward(self, inputs: Tensor) -> Features:
        return self.finish(self.backbone(inputs))

    @abstractmethod
    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write a model as the other library saves its own, so that it, and ``model``, can load it.

        Args:
            folder: exists.
            weights: of the network.

        Raises:
            PollinateError: the network is only a part of a model.
        """

    @property
    def peft_task(self) -> str | None:
        """What peft calls the kind of model; None: one that gives features."""
        return None

    def save_companions(self, folder: Path, options: Mapping[str, Any]) -> None:
        """Write what goes with a model, or with an adapter for one: a tokenizer, say.

        Args:
            folder: exists.
            options: how answers are written, as transformers' ``generate`` takes them; of models
                that write.
        """


class PlainEncoder(Encoder):
    """Any module of one's own as an encoder: (N, ...) -> (N, D).

    Args:
        module: gives one vector per row.
        dim: width D that the trunk reads.
        modality: for messages.

    Examples:
        >>> import torch, pollinate as po
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(9, 8))
        >>> encoder = po.encoders.PlainEncoder(network, dim=8, modality="image")
        >>> encoder(torch.ones(4, 1, 3, 3)).pooled.shape
        torch.Size([4, 8])
    """

    def __init__(self, module: nn.Module, dim: int, modality: str) -> None:
        super().__init__()
        self.module = module
        self.dim = dim
        self.modality = modality

    def forward(self, inputs: Tensor) -> Features:
        """Return the module's rows.

        Raises:
            UsageError: they have another shape than (N, D).
        """
        rows = self.module(inputs)
        if isinstance(rows, Features):
            return rows
        if not isinstance(rows, Tensor) or rows.shape != (len(inputs), self.dim):
            found = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise UsageError(
                f"encoder {self.modality} must give one vector of dim={self.dim} a row, shape "
                f"({len(inputs)}, {self.dim}), got {found}; end it with a pooling and a linear "
                "layer, or give MultiTaskModule another dim"
            )
        return Features(rows)
