"""Features of encoders, of this run and of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_modules.features import Features, together
from lightning_modules.transfer.base import TransferStep
from lightning_modules.transfer.pairs import Pair, Pairs
from lightning_modules.transfer.teacher import Teacher
from pipeline.configuration.suggest import hint
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from datamodules.mixed import MixedDataModule
    from lightning_modules.multitask import MultiTaskModule

KINDS = ("pooled", "sequence", "grid")


class EncoderPairs(Pairs):
    """{modality: what both encoders make of all its rows, whatever data set they come from}.

    Rows that lack the modality count as if they didn't differ.

    Args:
        teacher: whose encoders.
        modalities: names; None: all that both have.
        kind: pooled, sequence or grid.
        module, datamodule: of this run.

    Raises:
        UsageError: there is no such encoder, or the teacher reads other rows.
    """

    of_tasks = False

    def __init__(
        self,
        teacher: Teacher,
        modalities: Sequence[str] | None,
        kind: str,
        module: MultiTaskModule,
        datamodule: MixedDataModule,
    ) -> None:
        self.teacher, self.kind = teacher, kind
        own = list(module.network.encoders)
        for name in modalities or ():
            if name not in own:
                raise UsageError(f"this run reads no {name}{hint(name, own, 'it reads')}")
        self.modalities = list(modalities or [m for m in own if m in teacher.network.encoders])
        if not self.modalities:
            theirs = ", ".join(teacher.network.encoders)
            raise UsageError(f"this run reads {', '.join(own)}, and {teacher.name} only {theirs}")
        for name in self.modalities:
            teacher.require_encoder(name, module, datamodule)

    def find(self, step: TransferStep) -> dict[str, Pair]:
        """Compare all rows of a modality at once."""
        found = {name: self._pair(name, step) for name in self.modalities}
        return {name: pair for name, pair in found.items() if pair is not None}

    def whose(self, name: str) -> str:
        """Return the source."""
        return self.teacher.name

    def _pair(self, modality: str, step: TransferStep) -> Pair | None:
        batches = step.batch.batches
        names = {id(batch): name for name, batch in batches.items()}
        seen = [
            (names[id(one.batch)], one.by_modality[modality])
            for one in step.trace.seen.values()
            if modality in one.by_modality
        ]
        if not seen:
            return None
        taught = self.teacher.features(modality, batches)
        mine = together([features for _, features in seen])
        theirs = together([taught[name] for name, _ in seen])
        own = self._tensor(mine, f"encoder.{modality}")
        other = self._tensor(theirs, f"the encoder of {modality} of {self.teacher.name}")
        if self.kind == "sequence" and own.shape[1] != other.shape[1]:
            raise UsageError(
                f"tokens of {modality} must be the same, got {own.shape[1]} of this run's encoder "
                f"and {other.shape[1]} of {self.teacher.name}'s; compare transfer.at=pooled"
            )
        rows = sum(step.batch.sizes[name] for name, _ in seen)
        return Pair(own, other, rows, mine.mask if self.kind == "sequence" else None)

    def _tensor(self, features: Features, whose: str) -> Tensor:
        kinds = {"pooled": features.pooled, "sequence": features.sequence, "grid": features.grid}
        found = kinds[self.kind]
        if found is None:
            has = " or ".join(name for name, value in kinds.items() if value is not None)
            raise UsageError(f"{whose} gives no {self.kind}; set transfer.at={has}")
        return found
