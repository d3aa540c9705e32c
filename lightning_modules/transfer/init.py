"""Start from another model's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datamodules.mixed_datamodule import MixedDataModule
from lightning_modules.hooks import HookedModule
from lightning_modules.source_models import SourceProvider
from lightning_modules.transfer.base import Transfer
from lightning_modules.transfer.weight_matching import MatchedWeights


class Init(Transfer):
    """w = w_source at step 0, for each weight that has a place in both models.

    How much of what was taken trains, and when, is said by ``encoder.MODALITY.tune`` and
    ``optimizer.lr_scale``.

    Args:
        source: a run folder, a checkpoint, an MLflow run id, ``models:/NAME/VERSION``, or a folder
            or file of weights of timm, transformers or peft.
        parts: of this network, ``[encoders.text, trunk]``, say; None: all that have a counterpart.
        map: {part here: part there}, where their names differ.

    Examples:
        >>> import torch, pollinate as po
        >>> transfer = po.transfer.Init("runs/first")
        >>> model = po.MultiTaskModule(data, dim=16, transfer=transfer, sources=po.SourceOpener())
        >>> own, theirs = model.network.state_dict(), po.load("runs/first").network.state_dict()
        >>> all(torch.equal(own[name], theirs[name]) for name in theirs)
        True
    """

    def __init__(
        self,
        source: str,
        parts: Sequence[str] | None = None,
        map: Mapping[str, str] | None = None,  # noqa: A002  # what a user calls it
    ) -> None:
        super().__init__()
        self.source, self.parts, self.map = source, parts, dict(map or {})

    def setup(
        self, module: HookedModule, datamodule: MixedDataModule, sources: SourceProvider
    ) -> list[str]:
        """Take the weights over; a run that is resumed has them in its checkpoint.

        Raises:
            PollinateError: there is no such source.
            UsageError: weights, classes or tokenizers don't fit.
        """
        if datamodule.learnt is not None:
            return []
        fit = MatchedWeights.of(sources.open(self.source), module, datamodule, self.parts, self.map)
        fit.copy_into(module.network)
        return fit.summary()
